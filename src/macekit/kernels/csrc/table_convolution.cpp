// The edge convolution with a table, for one instruction set and precision: MACEKIT_KERNELS and MACEKIT_REAL.
#include "table_convolution_passes.h"

namespace macekit {
namespace MACEKIT_KERNELS {

template <class T>
TableKernels<T> table_kernels();

template <>
TableKernels<MACEKIT_REAL> table_kernels<MACEKIT_REAL>() {
    return {table_convolution<MACEKIT_REAL>, table_convolution_backward<MACEKIT_REAL>,
            table_convolution_backward2<MACEKIT_REAL>, table_convolution_tangent<MACEKIT_REAL>,
            table_convolution_weights<MACEKIT_REAL>};
}

}  // namespace MACEKIT_KERNELS
}  // namespace macekit
