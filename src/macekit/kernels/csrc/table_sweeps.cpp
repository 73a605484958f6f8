// The sweeps of the convolution with a table for one instruction set, precision and highest degree of the harmonics,
// which are given by MACEKIT_KERNELS, MACEKIT_REAL and MACEKIT_ELL.
#include "table_sweeps.h"

namespace macekit {
namespace MACEKIT_KERNELS {

template <class T, int max_ell>
TableSweeps<T> table_sweeps(int l_in);

template <>
TableSweeps<MACEKIT_REAL> table_sweeps<MACEKIT_REAL, MACEKIT_ELL>(int l_in) {
    return table_sweeps_of<MACEKIT_REAL, MACEKIT_ELL>(l_in);
}

}  // namespace MACEKIT_KERNELS
}  // namespace macekit
