// Read-outs of scalars for one instruction set and precision: MACEKIT_KERNELS and MACEKIT_REAL.
#include "readouts.h"

namespace macekit {
namespace MACEKIT_KERNELS {

template <class T>
ReadoutKernels<T> readout_kernels();

template <>
ReadoutKernels<MACEKIT_REAL> readout_kernels<MACEKIT_REAL>() {
    using Sweeps = ReadoutSweeps<MACEKIT_REAL>;
    return {Sweeps::values, Sweeps::geometry, Sweeps::tangents, Sweeps::weights};
}

}  // namespace MACEKIT_KERNELS
}  // namespace macekit
