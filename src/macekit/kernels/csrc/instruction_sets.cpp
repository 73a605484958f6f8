#include "instruction_sets.h"

#include <stdexcept>

namespace macekit {

// What `convolution.cpp`, `contraction.cpp` and `engine.cpp` define for an instruction set.
#define MACEKIT_DECLARE(name)                                \
    namespace name {                                         \
    template <class T>                                       \
    ConvolutionKernels<T> convolution_kernels();             \
    template <>                                              \
    ConvolutionKernels<float> convolution_kernels<float>();  \
    template <>                                              \
    ConvolutionKernels<double> convolution_kernels<double>();\
    template <class T>                                       \
    TableKernels<T> table_kernels();                         \
    template <>                                              \
    TableKernels<float> table_kernels<float>();              \
    template <>                                              \
    TableKernels<double> table_kernels<double>();            \
    template <class T>                                       \
    ContractionKernels<T> contraction_kernels();             \
    template <>                                              \
    ContractionKernels<float> contraction_kernels<float>();  \
    template <>                                              \
    ContractionKernels<double> contraction_kernels<double>();\
    template <class T>                                       \
    MatrixKernels<T> matrix_kernels();                       \
    template <>                                              \
    MatrixKernels<float> matrix_kernels<float>();            \
    template <>                                              \
    MatrixKernels<double> matrix_kernels<double>();          \
    template <class T>                                       \
    EngineKernels<T> engine_kernels();                       \
    template <>                                              \
    EngineKernels<float> engine_kernels<float>();            \
    template <>                                              \
    EngineKernels<double> engine_kernels<double>();          \
    }
MACEKIT_DECLARE(baseline)
#if defined(MACEKIT_X86)
MACEKIT_DECLARE(avx2)
MACEKIT_DECLARE(avx512)
#endif

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
#if defined(MACEKIT_X86)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw"))
        names.push_back("avx512");
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) names.push_back("avx2");
#endif
    names.push_back("baseline");
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

template <class T>
ConvolutionKernels<T> convolution_kernels_for(const std::string& instruction_set) {
    const std::string& name = checked(instruction_set);
#if defined(MACEKIT_X86)
    if (name == "avx512") return avx512::convolution_kernels<T>();
    if (name == "avx2") return avx2::convolution_kernels<T>();
#endif
    return baseline::convolution_kernels<T>();
}

template <class T>
TableKernels<T> table_kernels_for(const std::string& instruction_set) {
    const std::string& name = checked(instruction_set);
#if defined(MACEKIT_X86)
    if (name == "avx512") return avx512::table_kernels<T>();
    if (name == "avx2") return avx2::table_kernels<T>();
#endif
    return baseline::table_kernels<T>();
}

template <class T>
ContractionKernels<T> contraction_kernels_for(const std::string& instruction_set) {
    const std::string& name = checked(instruction_set);
#if defined(MACEKIT_X86)
    if (name == "avx512") return avx512::contraction_kernels<T>();
    if (name == "avx2") return avx2::contraction_kernels<T>();
#endif
    return baseline::contraction_kernels<T>();
}

template <class T>
MatrixKernels<T> matrix_kernels_for(const std::string& instruction_set) {
    const std::string& name = checked(instruction_set);
#if defined(MACEKIT_X86)
    if (name == "avx512") return avx512::matrix_kernels<T>();
    if (name == "avx2") return avx2::matrix_kernels<T>();
#endif
    return baseline::matrix_kernels<T>();
}

template <class T>
EngineKernels<T> engine_kernels_for(const std::string& instruction_set) {
    const std::string& name = checked(instruction_set);
#if defined(MACEKIT_X86)
    if (name == "avx512") return avx512::engine_kernels<T>();
    if (name == "avx2") return avx2::engine_kernels<T>();
#endif
    return baseline::engine_kernels<T>();
}

template ConvolutionKernels<float> convolution_kernels_for(const std::string&);
template ConvolutionKernels<double> convolution_kernels_for(const std::string&);
template TableKernels<float> table_kernels_for(const std::string&);
template TableKernels<double> table_kernels_for(const std::string&);
template ContractionKernels<float> contraction_kernels_for(const std::string&);
template ContractionKernels<double> contraction_kernels_for(const std::string&);
template MatrixKernels<float> matrix_kernels_for(const std::string&);
template MatrixKernels<double> matrix_kernels_for(const std::string&);
template EngineKernels<float> engine_kernels_for(const std::string&);
template EngineKernels<double> engine_kernels_for(const std::string&);

}  // namespace macekit
