// The inference engine for one instruction set and precision, which are given by MACEKIT_KERNELS and MACEKIT_REAL.
#include "engine_run.h"

namespace macekit {
namespace MACEKIT_KERNELS {

template <class T, int max_ell>
EnginePasses<T> engine_passes();
template <>
EnginePasses<MACEKIT_REAL> engine_passes<MACEKIT_REAL, 0>();
template <>
EnginePasses<MACEKIT_REAL> engine_passes<MACEKIT_REAL, 1>();
template <>
EnginePasses<MACEKIT_REAL> engine_passes<MACEKIT_REAL, 2>();
template <>
EnginePasses<MACEKIT_REAL> engine_passes<MACEKIT_REAL, 3>();
template <>
EnginePasses<MACEKIT_REAL> engine_passes<MACEKIT_REAL, 4>();

template <class T>
EnginePasses<T> passes_of(int max_ell) {
    switch (max_ell) {
        case 0: return engine_passes<T, 0>();
        case 1: return engine_passes<T, 1>();
        case 2: return engine_passes<T, 2>();
        case 3: return engine_passes<T, 3>();
        default: return engine_passes<T, 4>();
    }
}

template <class T>
void evaluate(const EngineModel<T>& model, const EngineSystem& system, const EngineResults& results,
              EngineMemory& memory, bool by_moments, int threads) {
    run_engine(model, system, results, memory, passes_of<T>, by_moments, threads);
}

template <class T>
EngineKernels<T> engine_kernels();

template <>
EngineKernels<MACEKIT_REAL> engine_kernels<MACEKIT_REAL>() {
    return {Register<MACEKIT_REAL>::lanes, evaluate<MACEKIT_REAL>};
}

}  // namespace MACEKIT_KERNELS
}  // namespace macekit
