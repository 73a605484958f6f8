// A register of 16 bytes that GCC and Clang make of vector types, on any processor.
#pragma once

#include <cstring>

#include "repeat.h"

namespace macekit {
namespace {

constexpr int kRegisters = 16;

template <class T>
struct Register {
    typedef T Native __attribute__((vector_size(16)));
    static constexpr int lanes = 16 / static_cast<int>(sizeof(T));
    Native v;
    static MACEKIT_INLINE Register zero() { return {Native{}}; }
    static MACEKIT_INLINE Register all(T x) {
        Register r;
        for (int lane = 0; lane < lanes; ++lane) r.v[lane] = x;
        return r;
    }
    static MACEKIT_INLINE Register load(const T* p, Full = {}) {
        Register r;
        std::memcpy(&r.v, p, sizeof(r.v));
        return r;
    }
    static MACEKIT_INLINE Register load(const T* p, Partial part) {
        Register r = zero();
        for (int lane = 0; lane < lanes; ++lane)
            if (lane < part.count) r.v[lane] = p[lane];
        return r;
    }
    MACEKIT_INLINE void store(T* p, Full = {}) const { std::memcpy(p, &v, sizeof(v)); }
    MACEKIT_INLINE void store(T* p, Partial part) const {
        for (int lane = 0; lane < lanes; ++lane)
            if (lane < part.count) p[lane] = v[lane];
    }
    MACEKIT_INLINE T sum() const {
        T total = v[0];
        for (int lane = 1; lane < lanes; ++lane) total += v[lane];
        return total;
    }
};

template <class T>
MACEKIT_INLINE Register<T> operator*(Register<T> x, Register<T> y) {
    return {x.v * y.v};
}
template <class T>
MACEKIT_INLINE Register<T> operator+(Register<T> x, Register<T> y) {
    return {x.v + y.v};
}
template <class T>
MACEKIT_INLINE Register<T> fma(Register<T> x, Register<T> y, Register<T> z) {
    return {x.v * y.v + z.v};
}

// After merge<0> ... merge<levels - 1>, lane n holds the sum of the n-th register: halves are kept side by side.
template <int level, class T>
MACEKIT_INLINE Register<T> merge(Register<T> x, Register<T> y) {
    constexpr int lanes = Register<T>::lanes, run = 1 << level;
    Register<T> first, second;
    for (int lane = 0; lane < lanes; ++lane) {  // runs of x and y in turn, out of either half
        const int at = lane / (2 * run) * run + lane % run;
        first.v[lane] = lane / run % 2 == 0 ? x.v[at] : y.v[at];
        second.v[lane] = lane / run % 2 == 0 ? x.v[at + lanes / 2] : y.v[at + lanes / 2];
    }
    return first + second;
}

}  // namespace
}  // namespace macekit
