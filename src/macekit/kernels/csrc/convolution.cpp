// The edge convolution for one instruction set and precision, which are given by MACEKIT_KERNELS and MACEKIT_REAL.
#include "convolution_passes.h"

namespace macekit {
namespace MACEKIT_KERNELS {

template <class T>
ConvolutionKernels<T> convolution_kernels();

template <>
ConvolutionKernels<MACEKIT_REAL> convolution_kernels<MACEKIT_REAL>() {
    return {convolution<MACEKIT_REAL>, convolution_backward<MACEKIT_REAL>, convolution_backward2<MACEKIT_REAL>};
}

}  // namespace MACEKIT_KERNELS
}  // namespace macekit
