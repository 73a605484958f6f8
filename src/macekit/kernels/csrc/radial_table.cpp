// Tables of radial functions for one instruction set and precision: MACEKIT_KERNELS and MACEKIT_REAL.
#include "radial_table.h"

namespace macekit {
namespace MACEKIT_KERNELS {

template <class T>
RadialKernels<T> radial_kernels();

template <>
RadialKernels<MACEKIT_REAL> radial_kernels<MACEKIT_REAL>() {
    return {radial_table<MACEKIT_REAL>, radial_table_backward<MACEKIT_REAL>};
}

}  // namespace MACEKIT_KERNELS
}  // namespace macekit
