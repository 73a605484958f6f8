// Memory of a worker, and how work is shared among threads.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace macekit {
namespace {

// Uninitialised numbers on a 64-byte boundary, so that no register straddles two cache lines.
template <class T>
class Workspace {
   public:
    explicit Workspace(std::int64_t count) {
        const std::size_t bytes = (static_cast<std::size_t>(count > 0 ? count : 1) * sizeof(T) + 63) / 64 * 64;
        numbers_ = static_cast<T*>(std::aligned_alloc(64, bytes));
        if (numbers_ == nullptr) throw std::bad_alloc();
    }
    ~Workspace() { std::free(numbers_); }
    Workspace(const Workspace&) = delete;
    Workspace& operator=(const Workspace&) = delete;
    T* data() const { return numbers_; }
    void clear(std::int64_t count) const { std::memset(numbers_, 0, static_cast<std::size_t>(count) * sizeof(T)); }

   private:
    T* numbers_;
};

inline std::int64_t smaller(std::int64_t x, std::int64_t y) { return x < y ? x : y; }

// Workers are a grid: each owns some blocks of channels of some atoms. Shares of channels need no atomics for what is
// scattered to senders; ranges of atoms are made only when there are more threads than blocks of channels.
struct Grid {
    int shares, ranges;
    Grid(std::int64_t blocks, std::int64_t atoms, int threads) {
        shares = static_cast<int>(smaller(blocks > 0 ? blocks : 1, threads > 0 ? threads : 1));
        ranges = static_cast<int>(smaller(atoms > 0 ? atoms : 1, threads / shares > 0 ? threads / shares : 1));
    }
    int workers() const { return shares * ranges; }
};

inline std::int64_t part(std::int64_t count, int parts, int index) { return count * index / parts; }

// Calls body(worker) for 0 ... workers - 1, with the threads of the OpenMP runtime, which is torch's own.
template <class Body>
void run_workers(int workers, const Body& body) {
#if defined(_OPENMP)
    if (workers > 1) {
#pragma omp parallel for schedule(static, 1) num_threads(workers)
        for (int worker = 0; worker < workers; ++worker) body(worker);
        return;
    }
#endif
    for (int worker = 0; worker < workers; ++worker) body(worker);
}

}  // namespace
}  // namespace macekit
