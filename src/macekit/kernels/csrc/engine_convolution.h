// The convolution of one block of channels, forward and backward, radial functions from the table.
//
// Forward: sums over the edges of an atom of R h Y for every product of components, a group of paths at a time, then the
// coupling once. Backward: the gradient is taken through the coupling once per atom, then one sweep over the edges.
#pragma once

#include <type_traits>

#include "engine.h"
#include "engine_paths.h"
#include "engine_reduce.h"

namespace macekit {
namespace {

constexpr int kGroupSize = kRegisters == 32 ? 24 : 10;

template <class T>
MACEKIT_INLINE Register<T> piece(const T* coefficients, Register<T> t) {
    constexpr int degree = kPieceDegree<T>, lanes = Register<T>::lanes;
    Register<T> value = Register<T>::load(coefficients + degree * lanes);
    repeat<degree>([&](auto k) MACEKIT_LAMBDA {
        value = fma(value, t, Register<T>::load(coefficients + (degree - 1 - decltype(k)::value) * lanes));
    });
    return value;
}

template <class T>
MACEKIT_INLINE void piece_and_slope(const T* coefficients, Register<T> t, Register<T>& value, Register<T>& slope) {
    constexpr int degree = kPieceDegree<T>, lanes = Register<T>::lanes;
    value = Register<T>::load(coefficients + degree * lanes);
    slope = value;
    value = fma(value, t, Register<T>::load(coefficients + (degree - 1) * lanes));
    repeat<degree - 1>([&](auto k) MACEKIT_LAMBDA {
        slope = fma(slope, t, value);
        value = fma(value, t, Register<T>::load(coefficients + (degree - 2 - decltype(k)::value) * lanes));
    });
}

// Numbers of one path in a row of the table.
template <class T>
constexpr int kPathStride = (kPieceDegree<T> + 1) * Register<T>::lanes;

// Sums of one group of paths over the edges begin ... end.
template <class T, int l_in, int max_ell, int group>
MACEKIT_INLINE void sum_group(const EdgeBlock<T>& b, std::int64_t begin, std::int64_t end, int first_path,
                              std::int64_t first_row, T* products) {
    using V = Register<T>;
    static constexpr Paths<l_in, max_ell, kGroupSize> paths;
    V sums[paths.sums[group]];
    repeat<paths.sums[group]>([&](auto n) MACEKIT_LAMBDA { sums[decltype(n)::value] = V::zero(); });
    for (std::int64_t e = begin; e < end; ++e) {
        const T* row = b.table + b.row[e] * b.row_stride + first_path * kPathStride<T>;
        const V t = V::all(b.fraction[e]);
        const T* y = b.y + e * b.width;
        const T* h = b.h + b.sender[e] * b.h_stride + first_row * V::lanes;
        repeat<paths.count>([&](auto path) MACEKIT_LAMBDA {
            constexpr int p = decltype(path)::value, sh = paths.l_sh[p];
            if constexpr (paths.group[p] == group) {
                const V radial = piece(row + p * kPathStride<T>, t);
                V sent[paths.inputs];
                repeat<paths.inputs>([&](auto n) MACEKIT_LAMBDA {
                    sent[decltype(n)::value] = radial * V::load(h + decltype(n)::value * V::lanes);
                });
                repeat<2 * sh + 1>([&](auto mm) MACEKIT_LAMBDA {
                    constexpr int m = decltype(mm)::value;
                    const V harmonic = V::all(y[sh * sh + m]);
                    repeat<paths.inputs>([&](auto nn) MACEKIT_LAMBDA {
                        constexpr int n = decltype(nn)::value;
                        if constexpr (paths.has(p, m, n)) {
                            constexpr int s = paths.sum_of(p, m, n);
                            if constexpr (sh == 0)
                                sums[s] = sums[s] + sent[n];
                            else
                                sums[s] = fma(sent[n], harmonic, sums[s]);
                        }
                    });
                });
            }
        });
    }
    repeat<paths.count>([&](auto path) MACEKIT_LAMBDA {
        constexpr int p = decltype(path)::value;
        if constexpr (paths.group[p] == group)
            repeat<2 * paths.l_sh[p] + 1>([&](auto mm) MACEKIT_LAMBDA {
                repeat<paths.inputs>([&](auto nn) MACEKIT_LAMBDA {
                    constexpr int m = decltype(mm)::value, n = decltype(nn)::value;
                    if constexpr (paths.has(p, m, n))
                        sums[paths.sum_of(p, m, n)].store(products + paths.product_of(p, m, n) * V::lanes);
                });
            });
    });
}

template <class T, int l_in, int max_ell>
void sum_edges(const EdgeBlock<T>& b, std::int64_t begin, std::int64_t end, int first_path, std::int64_t first_row,
               T* products) {
    constexpr Paths<l_in, max_ell, kGroupSize> paths;
    repeat<paths.groups>([&](auto group) MACEKIT_LAMBDA {
        sum_group<T, l_in, max_ell, decltype(group)::value>(b, begin, end, first_path, first_row, products);
    });
}

// Registers of one degree of the sent features in the backward sweep.
template <class T, int l_in>
struct Sent {
    static constexpr int inputs = 2 * l_in + 1;
    Register<T> h[inputs], to_h[inputs], slope[inputs];
};
struct NotSent {};

template <class T, int mask, int l_in>
using SentIf = std::conditional_t<(mask >> l_in) & 1, Sent<T, l_in>, NotSent>;

// The gradients of one path and one degree of harmonics.
template <class T, int l_in, int max_ell, int p>
MACEKIT_INLINE void pull_path(const T* row, Register<T> t, const T* y, const T* products,
                              Sent<T, l_in>& sent, Register<T>* to_y) {
    using V = Register<T>;
    static constexpr Paths<l_in, max_ell, kGroupSize> paths;
    constexpr int sh = paths.l_sh[p], inputs = paths.inputs;
    V radial, slope;
    piece_and_slope(row + p * kPathStride<T>, t, radial, slope);
    V moved[inputs], sums[inputs];
    repeat<inputs>([&](auto n) MACEKIT_LAMBDA {
        moved[decltype(n)::value] = radial * sent.h[decltype(n)::value];
        sums[decltype(n)::value] = V::zero();
    });
    repeat<2 * sh + 1>([&](auto mm) MACEKIT_LAMBDA {
        constexpr int m = decltype(mm)::value;
        const V harmonic = V::all(y[sh * sh + m]);
        repeat<inputs>([&](auto nn) MACEKIT_LAMBDA {
            constexpr int n = decltype(nn)::value;
            if constexpr (paths.has(p, m, n)) {
                const V x = V::load(products + paths.product_of(p, m, n) * V::lanes);
                if constexpr (sh == 0)
                    sums[n] = x;
                else if constexpr (paths.is_first(p, m, n))
                    sums[n] = x * harmonic;
                else
                    sums[n] = fma(x, harmonic, sums[n]);
                if constexpr (sh > 0) to_y[m] = fma(x, moved[n], to_y[m]);
            }
        });
    });
    repeat<inputs>([&](auto nn) MACEKIT_LAMBDA {
        constexpr int n = decltype(nn)::value;
        sent.slope[n] = fma(slope, sums[n], sent.slope[n]);
        sent.to_h[n] = fma(radial, sums[n], sent.to_h[n]);
    });
}

template <class T, int l_in, int max_ell, int sh>
MACEKIT_INLINE void pull_degree(const T* row, Register<T> t, const T* y, const T* products,
                                Sent<T, l_in>& sent, Register<T>* to_y) {
    constexpr Paths<l_in, max_ell, kGroupSize> paths;
    repeat<paths.count>([&](auto path) MACEKIT_LAMBDA {
        constexpr int p = decltype(path)::value;
        constexpr Paths<l_in, max_ell, kGroupSize> all;
        if constexpr (all.l_sh[p] == sh) pull_path<T, l_in, max_ell, p>(row, t, y, products, sent, to_y);
    });
}
template <class T, int l_in, int max_ell, int sh>
MACEKIT_INLINE void pull_degree(const T*, Register<T>, const T*, const T*, NotSent&, Register<T>*) {}

template <class T, int l_in>
MACEKIT_INLINE void open(Sent<T, l_in>& sent, const T* h, const T* to_h, const Starts& at) {
    using V = Register<T>;
    repeat<2 * l_in + 1>([&](auto nn) MACEKIT_LAMBDA {
        constexpr int n = decltype(nn)::value;
        sent.h[n] = V::load(h + (at.row[l_in] + n) * V::lanes);
        sent.to_h[n] = V::load(to_h + (at.row[l_in] + n) * V::lanes);
        sent.slope[n] = V::zero();
    });
}
template <class T, int l_in>
MACEKIT_INLINE void open(NotSent&, const T*, const T*, const Starts&) {}

template <class T, int l_in>
MACEKIT_INLINE void close(const Sent<T, l_in>& sent, T* to_h, const Starts& at, Register<T>& by_fraction) {
    using V = Register<T>;
    repeat<2 * l_in + 1>([&](auto nn) MACEKIT_LAMBDA {
        constexpr int n = decltype(nn)::value;
        by_fraction = fma(sent.slope[n], sent.h[n], by_fraction);
        sent.to_h[n].store(to_h + (at.row[l_in] + n) * V::lanes);
    });
}
template <class T, int l_in>
MACEKIT_INLINE void close(const NotSent&, T*, const Starts&, Register<T>&) {}

// One sweep over the edges begin ... end of an atom for all degrees of the mask together.
template <class T, int mask, int max_ell>
void pull_edges(const EdgeBlock<T>& b, std::int64_t begin, std::int64_t end, const Starts& at) {
    using V = Register<T>;
    constexpr int harmonics = (max_ell + 1) * (max_ell + 1);
    for (std::int64_t e = begin; e < end; ++e) {
        const T* row = b.table + b.row[e] * b.row_stride;
        const V t = V::all(b.fraction[e]);
        const T* y = b.y + e * b.width;
        const T* h = b.h + b.sender[e] * b.h_stride;
        T* to_h = b.to_h + b.sender[e] * b.h_stride;
        SentIf<T, mask, 0> zero;
        SentIf<T, mask, 1> one;
        SentIf<T, mask, 2> two;
        SentIf<T, mask, 3> three;
        open<T, 0>(zero, h, to_h, at);
        open<T, 1>(one, h, to_h, at);
        open<T, 2>(two, h, to_h, at);
        open<T, 3>(three, h, to_h, at);
        Reducer<T, harmonics> reducer(b.gradient + e * b.width);
        repeat<max_ell + 1>([&](auto degree) MACEKIT_LAMBDA {
            constexpr int sh = max_ell - decltype(degree)::value;
            V to_y[2 * sh + 1];
            repeat<2 * sh + 1>([&](auto m) MACEKIT_LAMBDA { to_y[decltype(m)::value] = V::zero(); });
#define MACEKIT_PULL(l, sent)                                                                     \
    pull_degree<T, l, max_ell, sh>(row + at.path[l] * kPathStride<T>, t, y,       \
                                   b.products + at.product[l] * V::lanes, sent, to_y)
            MACEKIT_PULL(0, zero);
            MACEKIT_PULL(1, one);
            MACEKIT_PULL(2, two);
            MACEKIT_PULL(3, three);
#undef MACEKIT_PULL
            if constexpr (sh > 0) {
                repeat<2 * sh + 1>([&](auto mm) MACEKIT_LAMBDA {  // descending
                    constexpr int m = 2 * sh - decltype(mm)::value;
                    reducer.template add<sh * sh + m>(to_y[m]);
                });
            } else {
                V by_fraction = V::zero();
                close<T, 0>(zero, to_h, at, by_fraction);
                close<T, 1>(one, to_h, at, by_fraction);
                close<T, 2>(two, to_h, at, by_fraction);
                close<T, 3>(three, to_h, at, by_fraction);
                reducer.template add<0>(by_fraction);
            }
        });
    }
}

template <class T, int max_ell>
typename EnginePasses<T>::Sum sum_edges_of(int l_in) {
    switch (l_in) {
        case 0: return sum_edges<T, 0, max_ell>;
        case 1: return sum_edges<T, 1, max_ell>;
        case 2: return sum_edges<T, 2, max_ell>;
        default: return sum_edges<T, 3, max_ell>;
    }
}

template <class T, int max_ell>
typename EnginePasses<T>::Pull pull_edges_of(int mask) {
    switch (mask) {
        case 1: return pull_edges<T, 1, max_ell>;
        case 2: return pull_edges<T, 2, max_ell>;
        case 3: return pull_edges<T, 3, max_ell>;
        case 4: return pull_edges<T, 4, max_ell>;
        default: return pull_edges<T, 8, max_ell>;
    }
}

}  // namespace
}  // namespace macekit
