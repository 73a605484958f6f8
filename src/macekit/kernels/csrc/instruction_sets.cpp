#include "instruction_sets.h"

#include <stdexcept>

namespace macekit {

#define MACEKIT_DECLARE(name)                          \
    namespace name {                                   \
    extern const Kernels<float> single_precision;      \
    extern const Kernels<double> double_precision;     \
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

template <class T>
const Kernels<T>& choose(const Kernels<float>& single, const Kernels<double>& twice);
template <>
const Kernels<float>& choose(const Kernels<float>& single, const Kernels<double>&) {
    return single;
}
template <>
const Kernels<double>& choose(const Kernels<float>&, const Kernels<double>& twice) {
    return twice;
}

}  // namespace

template <class T>
const Kernels<T>& kernels_for(const std::string& instruction_set) {
    for (const std::string& name : instruction_sets()) {
        if (name != instruction_set) continue;
#if defined(MACEKIT_X86)
        if (name == "avx512") return choose<T>(avx512::single_precision, avx512::double_precision);
        if (name == "avx2") return choose<T>(avx2::single_precision, avx2::double_precision);
#endif
        return choose<T>(baseline::single_precision, baseline::double_precision);
    }
    throw std::invalid_argument("this processor has no instruction set '" + instruction_set + "'");
}

template const Kernels<float>& kernels_for(const std::string&);
template const Kernels<double>& kernels_for(const std::string&);

}  // namespace macekit
