// One register of numbers, and the few operations that the kernels need, for the instruction set being compiled.
//
// Everything here and in the kernels is in a namespace of the instruction set, with internal linkage, so that the
// linker can never put a function compiled for AVX-512 where another object calls it.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#endif

namespace macekit {
namespace {

#define MACEKIT_INLINE inline __attribute__((always_inline))

template <int number>
struct Number {
    static constexpr int value = number;
};

#define MACEKIT_LAMBDA __attribute__((always_inline))

// Calls function(Number<0>) ... function(Number<count - 1>), written out: an array that is indexed by these numbers is
// kept in registers, where GCC leaves it in memory if it is indexed by a loop.
template <int count, class Function>
MACEKIT_INLINE void repeat(const Function& function) {
    if constexpr (count > 0) {
        repeat<count - 1>(function);
        function(Number<count - 1>());
    }
}

// How many channels of a block exist: all of a register, or the remainder at the end of a row.
struct Full {};
struct Partial {
    int count;
};

template <class T>
struct Register;

#if defined(__AVX512F__)

constexpr int kRegisters = 32;

template <>
struct Register<float> {
    static constexpr int lanes = 16;
    __m512 v;
    static MACEKIT_INLINE Register zero() { return {_mm512_setzero_ps()}; }
    static MACEKIT_INLINE Register all(float x) { return {_mm512_set1_ps(x)}; }
    static MACEKIT_INLINE Register load(const float* p, Full = {}) { return {_mm512_loadu_ps(p)}; }
    static MACEKIT_INLINE Register load(const float* p, Partial part) {
        return {_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << part.count) - 1u), p)};
    }
    MACEKIT_INLINE void store(float* p, Full = {}) const { _mm512_storeu_ps(p, v); }
    MACEKIT_INLINE void store(float* p, Partial part) const {
        _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << part.count) - 1u), v);
    }
    MACEKIT_INLINE float sum() const { return _mm512_reduce_add_ps(v); }
};

template <>
struct Register<double> {
    static constexpr int lanes = 8;
    __m512d v;
    static MACEKIT_INLINE Register zero() { return {_mm512_setzero_pd()}; }
    static MACEKIT_INLINE Register all(double x) { return {_mm512_set1_pd(x)}; }
    static MACEKIT_INLINE Register load(const double* p, Full = {}) { return {_mm512_loadu_pd(p)}; }
    static MACEKIT_INLINE Register load(const double* p, Partial part) {
        return {_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << part.count) - 1u), p)};
    }
    MACEKIT_INLINE void store(double* p, Full = {}) const { _mm512_storeu_pd(p, v); }
    MACEKIT_INLINE void store(double* p, Partial part) const {
        _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << part.count) - 1u), v);
    }
    MACEKIT_INLINE double sum() const { return _mm512_reduce_add_pd(v); }
};

MACEKIT_INLINE Register<float> fma(Register<float> x, Register<float> y, Register<float> z) {
    return {_mm512_fmadd_ps(x.v, y.v, z.v)};
}
MACEKIT_INLINE Register<double> fma(Register<double> x, Register<double> y, Register<double> z) {
    return {_mm512_fmadd_pd(x.v, y.v, z.v)};
}
MACEKIT_INLINE Register<float> operator*(Register<float> x, Register<float> y) { return {_mm512_mul_ps(x.v, y.v)}; }
MACEKIT_INLINE Register<double> operator*(Register<double> x, Register<double> y) { return {_mm512_mul_pd(x.v, y.v)}; }
MACEKIT_INLINE Register<float> operator+(Register<float> x, Register<float> y) { return {_mm512_add_ps(x.v, y.v)}; }
MACEKIT_INLINE Register<double> operator+(Register<double> x, Register<double> y) { return {_mm512_add_pd(x.v, y.v)}; }

// Adds the sum of the lanes of every one of some rows to totals, as many rows as there are lanes.
MACEKIT_INLINE void add_sums_of_rows(const float* rows, float* totals) {
    __m512 pairs[8], fours[4];
    repeat<8>([&](auto i) MACEKIT_LAMBDA {
        const __m512 x = _mm512_loadu_ps(rows + 32 * i.value), y = _mm512_loadu_ps(rows + 32 * i.value + 16);
        pairs[i.value] = _mm512_add_ps(_mm512_unpacklo_ps(x, y), _mm512_unpackhi_ps(x, y));
    });
    repeat<4>([&](auto i) MACEKIT_LAMBDA {
        const __m512d x = _mm512_castps_pd(pairs[2 * i.value]), y = _mm512_castps_pd(pairs[2 * i.value + 1]);
        fours[i.value] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)),
                                       _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    });
    const __m512 low = _mm512_add_ps(_mm512_shuffle_f32x4(fours[0], fours[1], 0x44),
                                     _mm512_shuffle_f32x4(fours[0], fours[1], 0xEE));
    const __m512 high = _mm512_add_ps(_mm512_shuffle_f32x4(fours[2], fours[3], 0x44),
                                      _mm512_shuffle_f32x4(fours[2], fours[3], 0xEE));
    const __m512 sums = _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x88), _mm512_shuffle_f32x4(low, high, 0xDD));
    _mm512_storeu_ps(totals, _mm512_add_ps(_mm512_loadu_ps(totals), sums));
}
MACEKIT_INLINE void add_sums_of_rows(const double* rows, double* totals) {
    __m512d pairs[4];
    repeat<4>([&](auto i) MACEKIT_LAMBDA {
        const __m512d x = _mm512_loadu_pd(rows + 16 * i.value), y = _mm512_loadu_pd(rows + 16 * i.value + 8);
        pairs[i.value] = _mm512_add_pd(_mm512_unpacklo_pd(x, y), _mm512_unpackhi_pd(x, y));
    });
    const __m512d low = _mm512_add_pd(_mm512_shuffle_f64x2(pairs[0], pairs[1], 0x44),
                                      _mm512_shuffle_f64x2(pairs[0], pairs[1], 0xEE));
    const __m512d high = _mm512_add_pd(_mm512_shuffle_f64x2(pairs[2], pairs[3], 0x44),
                                       _mm512_shuffle_f64x2(pairs[2], pairs[3], 0xEE));
    const __m512d sums = _mm512_add_pd(_mm512_shuffle_f64x2(low, high, 0x88), _mm512_shuffle_f64x2(low, high, 0xDD));
    _mm512_storeu_pd(totals, _mm512_add_pd(_mm512_loadu_pd(totals), sums));
}

#else  // registers that GCC and Clang make of vector types: 32 bytes with AVX2, 16 otherwise

#if defined(__AVX2__) && defined(__FMA__)
#define MACEKIT_REGISTER_BYTES 32
#else
#define MACEKIT_REGISTER_BYTES 16
#endif

constexpr int kRegisters = 16;

template <class T>
struct Register {
    typedef T Native __attribute__((vector_size(MACEKIT_REGISTER_BYTES)));
    static constexpr int lanes = MACEKIT_REGISTER_BYTES / static_cast<int>(sizeof(T));
    Native v;
    static MACEKIT_INLINE Register zero() { return {Native{}}; }
    static MACEKIT_INLINE Register all(T x) { return {Native{} + x}; }
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
// Adds the sum of the lanes of every one of some rows to totals, as many rows as there are lanes.
template <class T>
MACEKIT_INLINE void add_sums_of_rows(const T* rows, T* totals) {
    for (int row = 0; row < Register<T>::lanes; ++row)
        totals[row] += Register<T>::load(rows + row * Register<T>::lanes).sum();
}
#if MACEKIT_REGISTER_BYTES == 32
MACEKIT_INLINE Register<float> fma(Register<float> x, Register<float> y, Register<float> z) {
    return {(Register<float>::Native)_mm256_fmadd_ps((__m256)x.v, (__m256)y.v, (__m256)z.v)};
}
MACEKIT_INLINE Register<double> fma(Register<double> x, Register<double> y, Register<double> z) {
    return {(Register<double>::Native)_mm256_fmadd_pd((__m256d)x.v, (__m256d)y.v, (__m256d)z.v)};
}
#else
template <class T>
MACEKIT_INLINE Register<T> fma(Register<T> x, Register<T> y, Register<T> z) {
    return {x.v * y.v + z.v};
}
#endif

#endif

}  // namespace
}  // namespace macekit
