// The engine's convolution for one instruction set, precision and highest degree of the harmonics, which are given by
// MACEKIT_KERNELS, MACEKIT_REAL and MACEKIT_ELL.
#include "engine_convolution.h"
#include "engine_moments.h"

namespace macekit {
namespace MACEKIT_KERNELS {

template <class T, int max_ell>
EnginePasses<T> engine_passes();

template <>
EnginePasses<MACEKIT_REAL> engine_passes<MACEKIT_REAL, MACEKIT_ELL>() {
    return {sum_edges_of<MACEKIT_REAL, MACEKIT_ELL>, pull_edges_of<MACEKIT_REAL, MACEKIT_ELL>,
            sum_moments<MACEKIT_REAL, MACEKIT_ELL>, pull_moments<MACEKIT_REAL, MACEKIT_ELL>};
}

}  // namespace MACEKIT_KERNELS
}  // namespace macekit
