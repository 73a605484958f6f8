// Harmonics of edges for one instruction set and precision: MACEKIT_KERNELS and MACEKIT_REAL.
#include "edge_harmonics.h"

namespace macekit {
namespace MACEKIT_KERNELS {

template <class T>
HarmonicKernels<T> harmonic_kernels();

template <>
HarmonicKernels<MACEKIT_REAL> harmonic_kernels<MACEKIT_REAL>() {
    return {{measure<MACEKIT_REAL>, pull<MACEKIT_REAL>, push<MACEKIT_REAL>}};
}

}  // namespace MACEKIT_KERNELS
}  // namespace macekit
