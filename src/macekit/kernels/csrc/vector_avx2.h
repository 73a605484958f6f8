// A register of AVX2: 8 float or 4 double.
#pragma once

#include <immintrin.h>

#include "repeat.h"

namespace macekit {
namespace {

constexpr int kRegisters = 16;

template <>
struct Register<float> {
    static constexpr int lanes = 8;
    __m256 v;
    static MACEKIT_INLINE Register zero() { return {_mm256_setzero_ps()}; }
    static MACEKIT_INLINE Register all(float x) { return {_mm256_set1_ps(x)}; }
    static MACEKIT_INLINE Register load(const float* p, Full = {}) { return {_mm256_loadu_ps(p)}; }
    static MACEKIT_INLINE Register load(const float* p, Partial part) { return {_mm256_maskload_ps(p, mask(part))}; }
    MACEKIT_INLINE void store(float* p, Full = {}) const { _mm256_storeu_ps(p, v); }
    MACEKIT_INLINE void store(float* p, Partial part) const { _mm256_maskstore_ps(p, mask(part), v); }
    MACEKIT_INLINE float sum() const {
        __m128 x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
        x = _mm_add_ps(x, _mm_movehl_ps(x, x));
        return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
    }

   private:
    static MACEKIT_INLINE __m256i mask(Partial part) {
        return _mm256_cmpgt_epi32(_mm256_set1_epi32(part.count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    }
};

template <>
struct Register<double> {
    static constexpr int lanes = 4;
    __m256d v;
    static MACEKIT_INLINE Register zero() { return {_mm256_setzero_pd()}; }
    static MACEKIT_INLINE Register all(double x) { return {_mm256_set1_pd(x)}; }
    static MACEKIT_INLINE Register load(const double* p, Full = {}) { return {_mm256_loadu_pd(p)}; }
    static MACEKIT_INLINE Register load(const double* p, Partial part) { return {_mm256_maskload_pd(p, mask(part))}; }
    MACEKIT_INLINE void store(double* p, Full = {}) const { _mm256_storeu_pd(p, v); }
    MACEKIT_INLINE void store(double* p, Partial part) const { _mm256_maskstore_pd(p, mask(part), v); }
    MACEKIT_INLINE double sum() const {
        const __m128d x = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
        return _mm_cvtsd_f64(_mm_add_sd(x, _mm_unpackhi_pd(x, x)));
    }

   private:
    static MACEKIT_INLINE __m256i mask(Partial part) {
        return _mm256_cmpgt_epi64(_mm256_set1_epi64x(part.count), _mm256_setr_epi64x(0, 1, 2, 3));
    }
};

MACEKIT_INLINE Register<float> fma(Register<float> x, Register<float> y, Register<float> z) {
    return {_mm256_fmadd_ps(x.v, y.v, z.v)};
}
MACEKIT_INLINE Register<double> fma(Register<double> x, Register<double> y, Register<double> z) {
    return {_mm256_fmadd_pd(x.v, y.v, z.v)};
}
MACEKIT_INLINE Register<float> operator*(Register<float> x, Register<float> y) { return {_mm256_mul_ps(x.v, y.v)}; }
MACEKIT_INLINE Register<double> operator*(Register<double> x, Register<double> y) { return {_mm256_mul_pd(x.v, y.v)}; }
MACEKIT_INLINE Register<float> operator+(Register<float> x, Register<float> y) { return {_mm256_add_ps(x.v, y.v)}; }
MACEKIT_INLINE Register<double> operator+(Register<double> x, Register<double> y) { return {_mm256_add_pd(x.v, y.v)}; }

// After merge<0> ... merge<levels - 1>, lane n holds the sum of the n-th register.
template <int level>
MACEKIT_INLINE Register<float> merge(Register<float> x, Register<float> y) {
    if constexpr (level == 0) {
        return {_mm256_add_ps(_mm256_unpacklo_ps(x.v, y.v), _mm256_unpackhi_ps(x.v, y.v))};
    } else if constexpr (level == 1) {
        const __m256d p = _mm256_castps_pd(x.v), q = _mm256_castps_pd(y.v);
        return {_mm256_add_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(p, q)), _mm256_castpd_ps(_mm256_unpackhi_pd(p, q)))};
    } else {
        return {_mm256_add_ps(_mm256_permute2f128_ps(x.v, y.v, 0x20), _mm256_permute2f128_ps(x.v, y.v, 0x31))};
    }
}
template <int level>
MACEKIT_INLINE Register<double> merge(Register<double> x, Register<double> y) {
    if constexpr (level == 0)
        return {_mm256_add_pd(_mm256_unpacklo_pd(x.v, y.v), _mm256_unpackhi_pd(x.v, y.v))};
    else
        return {_mm256_add_pd(_mm256_permute2f128_pd(x.v, y.v, 0x20), _mm256_permute2f128_pd(x.v, y.v, 0x31))};
}

}  // namespace
}  // namespace macekit
