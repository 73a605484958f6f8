// A register of AVX-512: 16 float or 8 double.
#pragma once

#include <immintrin.h>

#include "repeat.h"

namespace macekit {
namespace {

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

// After merge<0> ... merge<levels - 1>, lane n holds the sum of the n-th register.
template <int level>
MACEKIT_INLINE Register<float> merge(Register<float> x, Register<float> y) {
    if constexpr (level == 0) {
        return {_mm512_add_ps(_mm512_unpacklo_ps(x.v, y.v), _mm512_unpackhi_ps(x.v, y.v))};
    } else if constexpr (level == 1) {
        const __m512d p = _mm512_castps_pd(x.v), q = _mm512_castps_pd(y.v);
        return {_mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(p, q)), _mm512_castpd_ps(_mm512_unpackhi_pd(p, q)))};
    } else {
        return {_mm512_add_ps(_mm512_shuffle_f32x4(x.v, y.v, 0x88), _mm512_shuffle_f32x4(x.v, y.v, 0xdd))};
    }
}
template <int level>
MACEKIT_INLINE Register<double> merge(Register<double> x, Register<double> y) {
    if constexpr (level == 0)
        return {_mm512_add_pd(_mm512_unpacklo_pd(x.v, y.v), _mm512_unpackhi_pd(x.v, y.v))};
    else
        return {_mm512_add_pd(_mm512_shuffle_f64x2(x.v, y.v, 0x88), _mm512_shuffle_f64x2(x.v, y.v, 0xdd))};
}

}  // namespace
}  // namespace macekit
