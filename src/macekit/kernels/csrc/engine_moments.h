// The first layer by moments: for every element of the senders, sums over edges of hidden unit times harmonic. One matrix
// product then makes the atomic basis of them, with all linear maps between folded in.
#pragma once

#include "engine_convolution.h"

namespace macekit {
namespace {

// Moments [component][hidden unit of every element] of one atom and the edges begin ... end of one element.
template <class T, int max_ell>
void sum_moments(const EdgeBlock<T>& b, std::int64_t begin, std::int64_t end, int blocks, T* out, std::int64_t stride) {
    using V = Register<T>;
    constexpr int components = (max_ell + 1) * (max_ell + 1);
    for (int c = 0; c < blocks; ++c) {
        V sums[components];
        repeat<components>([&](auto k) MACEKIT_LAMBDA { sums[decltype(k)::value] = V::zero(); });
        for (std::int64_t e = begin; e < end; ++e) {
            const V hidden = piece(b.table + c * b.table_block + b.row[e] * b.row_stride, V::all(b.fraction[e]));
            const T* y = b.y + e * b.width;
            repeat<components>([&](auto kk) MACEKIT_LAMBDA {
                constexpr int k = decltype(kk)::value;
                sums[k] = k == 0 ? sums[k] + hidden : fma(hidden, V::all(y[k]), sums[k]);
            });
        }
        repeat<components>([&](auto kk) MACEKIT_LAMBDA {
            constexpr int k = decltype(kk)::value;
            sums[k].store(out + k * stride + c * V::lanes);
        });
    }
}

// Gradients of edges, given those of the moments; hidden units in groups of as many blocks as fit.
template <class T, int max_ell, int group>
MACEKIT_INLINE void pull_moment_group(const EdgeBlock<T>& b, std::int64_t e, const T* grad, std::int64_t stride, int first) {
    using V = Register<T>;
    constexpr int components = (max_ell + 1) * (max_ell + 1);
    V hidden[group], slope[group], sums[group];
    repeat<group>([&](auto cc) MACEKIT_LAMBDA {
        constexpr int c = decltype(cc)::value;
        piece_and_slope(b.table + (first + c) * b.table_block + b.row[e] * b.row_stride, V::all(b.fraction[e]), hidden[c],
                        slope[c]);
        sums[c] = V::load(grad + (first + c) * V::lanes);
    });
    const T* y = b.y + e * b.width;
    Reducer<T, components> reducer(b.gradient + e * b.width);
    repeat<components>([&](auto kk) MACEKIT_LAMBDA {
        constexpr int k = components - 1 - decltype(kk)::value;
        V total = V::zero();
        if constexpr (k > 0) {
            const V harmonic = V::all(y[k]);
            repeat<group>([&](auto cc) MACEKIT_LAMBDA {
                constexpr int c = decltype(cc)::value;
                const V moment = V::load(grad + k * stride + (first + c) * V::lanes);
                total = fma(moment, hidden[c], total);
                sums[c] = fma(moment, harmonic, sums[c]);
            });
        } else {
            repeat<group>([&](auto cc) MACEKIT_LAMBDA {
                total = fma(sums[decltype(cc)::value], slope[decltype(cc)::value], total);
            });
        }
        reducer.template add<k>(total);
    });
}

template <class T, int max_ell>
void pull_moments(const EdgeBlock<T>& b, std::int64_t begin, std::int64_t end, int blocks, const T* grad,
                  std::int64_t stride) {
    for (std::int64_t e = begin; e < end; ++e) {
        int c = 0;
        for (; c + 4 <= blocks; c += 4) pull_moment_group<T, max_ell, 4>(b, e, grad, stride, c);
        for (; c < blocks; ++c) pull_moment_group<T, max_ell, 1>(b, e, grad, stride, c);
    }
}

}  // namespace
}  // namespace macekit
