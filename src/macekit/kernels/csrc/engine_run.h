// Memory and threads of one evaluation.
#pragma once

#include "engine_worker.h"

namespace macekit {
namespace {

inline void reserve(EngineMemory& memory, std::size_t bytes) {
    if (bytes <= memory.bytes) return;
    std::free(memory.data);
    memory = {nullptr, 0};
    const std::size_t rounded = (bytes + bytes / 8 + 4095) / 4096 * 4096;
    memory.data = static_cast<char*>(std::aligned_alloc(4096, rounded));
    if (memory.data == nullptr) throw std::bad_alloc();
    memory.bytes = rounded;
}

// Whether as many workers as wanted could be had.
template <class T>
bool run_workers_of(const EngineModel<T>& model, const EngineSystem& system, const EngineResults& results,
                    EngineMemory& memory, EnginePassesOf<T> passes, bool by_moments, int threads) {
    reserve(memory, EngineArrays<T>(model, system, by_moments, threads, Arena(nullptr)).bytes);
    const EngineArrays<T> arrays(model, system, by_moments, threads, Arena(memory.data));
    const int workers = arrays.grid.workers();
#if defined(_OPENMP)
    if (workers > 1) {
        bool complete = true;
#pragma omp parallel num_threads(workers)
        {
            if (omp_get_num_threads() == workers)
                Worker<T>(model, system, results, arrays, passes, by_moments, omp_get_thread_num()).run();
            else if (omp_get_thread_num() == 0)
                complete = false;
        }
        return complete;
    }
#endif
    if (workers > 1) return false;
    Worker<T>(model, system, results, arrays, passes, by_moments, 0).run();
    return true;
}

template <class T>
void run_engine(const EngineModel<T>& model, const EngineSystem& system, const EngineResults& results,
                EngineMemory& memory, EnginePassesOf<T> passes, bool by_moments, int threads) {
    if (!run_workers_of(model, system, results, memory, passes, by_moments, threads))
        run_workers_of(model, system, results, memory, passes, by_moments, 1);
}

}  // namespace
}  // namespace macekit
