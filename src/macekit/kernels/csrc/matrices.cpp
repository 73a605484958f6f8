// Products with matrices for one instruction set and precision: MACEKIT_KERNELS and MACEKIT_REAL.
#include "matrix_chains.h"

namespace macekit {
namespace MACEKIT_KERNELS {

template <class T>
MatrixKernels<T> matrix_kernels();

template <>
MatrixKernels<MACEKIT_REAL> matrix_kernels<MACEKIT_REAL>() {
    return {apply_matrices<MACEKIT_REAL>, outer_products<MACEKIT_REAL>, chain<MACEKIT_REAL>, chain_backward<MACEKIT_REAL>,
            Register<MACEKIT_REAL>::lanes};
}

}  // namespace MACEKIT_KERNELS
}  // namespace macekit
