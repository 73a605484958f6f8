// Sums over the lanes of many registers at once: pairs are merged as soon as both are there, so that few are alive.
#pragma once

#include <type_traits>

#include "vector.h"

namespace macekit {
namespace {

#if defined(__AVX512F__)

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
#define MACEKIT_HAS_MERGE

#endif

#if defined(MACEKIT_HAS_MERGE)

// Adds the sum of register n to target[n], n = count - 1 ... 0 in this order; target is padded to whole registers.
template <class T, int count>
class Reducer {
    using V = Register<T>;
    static constexpr int levels = V::lanes == 16 ? 4 : 3;
    T* target_;
    V waiting_[levels];

    template <int n, int level>
    MACEKIT_INLINE void merged(V x) {
        if constexpr (level == levels) {
            T* place = target_ + n * V::lanes;
            (V::load(place) + x).store(place);
        } else if constexpr (n % 2 == 1) {
            waiting_[level] = x;
        } else {
            merged<n / 2, level + 1>(merge<level>(x, waiting_[level]));
        }
    }

   public:
    MACEKIT_INLINE explicit Reducer(T* target) : target_(target) {
        repeat<levels>([&](auto level) MACEKIT_LAMBDA { waiting_[decltype(level)::value] = V::zero(); });
    }
    template <int n>
    MACEKIT_INLINE void add(V x) {
        if constexpr (n == count - 1 && n % V::lanes != V::lanes - 1) {  // what is missing is zero
            merged<n, 0>(x);
        } else {
            if constexpr (n % V::lanes == V::lanes - 1)
                repeat<levels>([&](auto level) MACEKIT_LAMBDA { waiting_[decltype(level)::value] = V::zero(); });
            merged<n, 0>(x);
        }
    }
};

#else

template <class T, int count>
class Reducer {
    T* target_;

   public:
    MACEKIT_INLINE explicit Reducer(T* target) : target_(target) {}
    template <int n>
    MACEKIT_INLINE void add(Register<T> x) {
        target_[n] += x.sum();
    }
};

#endif

}  // namespace
}  // namespace macekit
