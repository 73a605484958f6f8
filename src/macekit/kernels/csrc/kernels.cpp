// All kernels for one instruction set; compiled once for each with other flags and another MACEKIT_KERNELS.
#include "contraction_passes.h"
#include "convolution_passes.h"

namespace macekit {
namespace {

template <class T>
constexpr Kernels<T> kernels() {
    return {convolution<T>,
            convolution_backward<T>,
            convolution_backward2<T>,
            contract<T, Pass::value>,
            contract<T, Pass::gradient>,
            contract<T, Pass::tangent>};
}

}  // namespace

namespace MACEKIT_KERNELS {
extern const Kernels<float> single_precision;
extern const Kernels<double> double_precision;
const Kernels<float> single_precision = kernels<float>();
const Kernels<double> double_precision = kernels<double>();
}  // namespace MACEKIT_KERNELS

}  // namespace macekit
