// The symmetric contraction for one instruction set and precision: MACEKIT_KERNELS and MACEKIT_REAL.
#include "contraction_passes.h"

namespace macekit {
namespace MACEKIT_KERNELS {

template <class T>
ContractionKernels<T> contraction_kernels();

template <>
ContractionKernels<MACEKIT_REAL> contraction_kernels<MACEKIT_REAL>() {
    return {contract<MACEKIT_REAL, Pass::value>, contract_backward<MACEKIT_REAL>,
            contract_backward2<MACEKIT_REAL>};
}

}  // namespace MACEKIT_KERNELS
}  // namespace macekit
