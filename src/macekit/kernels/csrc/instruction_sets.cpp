#include "instruction_sets.h"

#include <stdexcept>

// What there is for every instruction set, and which of these are built.
#define MACEKIT_EACH_KIND(apply)                    \
    apply(ConvolutionKernels, convolution_kernels)  \
    apply(TableKernels, table_kernels)              \
    apply(ContractionKernels, contraction_kernels)  \
    apply(MatrixKernels, matrix_kernels)            \
    apply(HarmonicKernels, harmonic_kernels)        \
    apply(RadialKernels, radial_kernels)            \
    apply(ReadoutKernels, readout_kernels)          \
    apply(EngineKernels, engine_kernels)

#if defined(MACEKIT_HAS_AVX512)
#define MACEKIT_AVX512(code) code
#else
#define MACEKIT_AVX512(code)
#endif
#if defined(MACEKIT_HAS_AVX2)
#define MACEKIT_AVX2(code) code
#else
#define MACEKIT_AVX2(code)
#endif
#if defined(MACEKIT_HAS_BASELINE)
#define MACEKIT_BASELINE(code) code
#else
#define MACEKIT_BASELINE(code)
#endif

namespace macekit {

// What `convolution.cpp`, `table_convolution.cpp`, `contraction.cpp`, `matrices.cpp`, `edge_harmonics.cpp`,
// `radial_table.cpp`, `readouts.cpp` and `engine.cpp` define.
#define MACEKIT_DECLARE_KIND(Kind, make) \
    template <class T>                   \
    Kind<T> make();                      \
    template <>                          \
    Kind<float> make<float>();           \
    template <>                          \
    Kind<double> make<double>();
MACEKIT_AVX512(namespace avx512 { MACEKIT_EACH_KIND(MACEKIT_DECLARE_KIND) })
MACEKIT_AVX2(namespace avx2 { MACEKIT_EACH_KIND(MACEKIT_DECLARE_KIND) })
MACEKIT_BASELINE(namespace baseline { MACEKIT_EACH_KIND(MACEKIT_DECLARE_KIND) })

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
#if defined(MACEKIT_HAS_AVX512) || defined(MACEKIT_HAS_AVX2)
    __builtin_cpu_init();
#endif
    MACEKIT_AVX512(if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                       __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw"))
                       names.push_back("avx512");)
    MACEKIT_AVX2(if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.push_back("avx2");)
    MACEKIT_BASELINE(names.push_back("baseline");)
    return names;
}

namespace {

// The name, if this processor has it.
const std::string& checked(const std::string& instruction_set) {
    for (const std::string& name : instruction_sets())
        if (name == instruction_set) return instruction_set;
    throw std::invalid_argument("this processor has no instruction set '" + instruction_set + "'");
}

}  // namespace

#define MACEKIT_DEFINE_KIND(Kind, make)                                        \
    template <class T>                                                         \
    Kind<T> make##_for(const std::string& instruction_set) {                   \
        const std::string& name = checked(instruction_set);                    \
        MACEKIT_AVX512(if (name == "avx512") return avx512::make<T>();)        \
        MACEKIT_AVX2(if (name == "avx2") return avx2::make<T>();)              \
        MACEKIT_BASELINE(if (name == "baseline") return baseline::make<T>();)  \
        throw std::logic_error("no kernels of '" + name + "'");                \
    }                                                                          \
    template Kind<float> make##_for(const std::string&);                       \
    template Kind<double> make##_for(const std::string&);
MACEKIT_EACH_KIND(MACEKIT_DEFINE_KIND)

}  // namespace macekit
