// The sweeps over edges of the convolution with a table, for sender's features of one degree and all their paths.
//
//     R[e, p] = Σ_q w_q(r_e) T[g(e) + q, p]
//
// with four weights per edge out of a table T that is packed as [degree][row][path][lanes], so that the places of all
// that an edge reads of one degree differ by constants. Features are packed as [atom][component][lanes].
// U[p, m1, m2] = Σ_e R h Y is summed over the edges of a receiver and coupled once per receiver, and G is the gradient
// pulled back through the coupling once per receiver; both only for products that occur.
#pragma once

#include "engine_paths.h"
#include "table_edges.h"
#include "vector.h"

namespace macekit {
namespace {

constexpr int kProductsAtOnce = kRegisters == 32 ? 22 : 10;

// The weights of the rows of one edge for the radial functions, their slope, and the tangents of both.
enum { kValue = 0, kSlope = kSplineRows, kMoved = 2 * kSplineRows, kMovedSlope = 3 * kSplineRows };

template <class V, class T>
MACEKIT_INLINE V interpolate(const V (&rows)[kSplineRows], const T* weights) {
    const V low = fma(rows[1], V::all(weights[1]), rows[0] * V::all(weights[0]));
    return fma(rows[3], V::all(weights[3]), fma(rows[2], V::all(weights[2]), low));
}

template <int paths, class V, class T>
MACEKIT_INLINE void load_rows(const T* first, V (&rows)[kSplineRows]) {
    repeat<kSplineRows>([&](auto q) MACEKIT_LAMBDA { rows[q.value] = V::load(first + q.value * paths * V::lanes); });
}

// Products U of one group of paths, or their tangent along (h', Y', r').
template <class T, int l_in, int max_ell, bool tangent, int group>
MACEKIT_INLINE void sum_group(const TableEdges<T>& b, std::int64_t begin, std::int64_t end, const SenderDegree& at,
                              T* products) {
    using V = Register<T>;
    static constexpr Paths<l_in, max_ell, kProductsAtOnce> paths;
    constexpr int harmonics = (max_ell + 1) * (max_ell + 1), inputs = 2 * l_in + 1;
    const T* const table = b.table + b.rows * at.first_path * V::lanes;
    V sums[paths.sums[group]];
    repeat<paths.sums[group]>([&](auto s) MACEKIT_LAMBDA { sums[decltype(s)::value] = V::zero(); });
    for (std::int64_t e = begin; e < end; ++e) {
        const PackedEdge edge = b.edges[e];
        const T* row = table + edge.row * (paths.count * V::lanes);
        const T *numbers = b.splines + e * kSplineNumbers, *y = b.y + e * harmonics;
        const T* h = b.h + edge.atom * b.h_step + at.first_input * V::lanes;
        const T* dy = tangent ? b.dy + e * harmonics : nullptr;
        const T* dh = tangent ? b.dh + edge.atom * b.dh_step + at.first_input * V::lanes : nullptr;
        repeat<paths.count>([&](auto path) MACEKIT_LAMBDA {
            constexpr int p = decltype(path)::value, sh = paths.l_sh[p];
            if constexpr (paths.group[p] == group) {
                V rows[kSplineRows], sent[inputs], moved[inputs];
                load_rows<paths.count>(row + p * V::lanes, rows);
                const V weight = interpolate(rows, numbers + kValue);
                const V d_weight = tangent ? interpolate(rows, numbers + kMoved) : V::zero();
                repeat<inputs>([&](auto nn) MACEKIT_LAMBDA {
                    constexpr int n = decltype(nn)::value;
                    const V x = V::load(h + n * V::lanes);
                    sent[n] = weight * x;
                    if constexpr (tangent) moved[n] = fma(d_weight, x, weight * V::load(dh + n * V::lanes));
                });
                repeat<2 * sh + 1>([&](auto mm) MACEKIT_LAMBDA {
                    constexpr int m = decltype(mm)::value;
                    const V harmonic = V::all(y[sh * sh + m]);
                    const V d_harmonic = tangent ? V::all(dy[sh * sh + m]) : V::zero();
                    repeat<inputs>([&](auto nn) MACEKIT_LAMBDA {
                        constexpr int n = decltype(nn)::value;
                        if constexpr (paths.has(p, m, n)) {
                            constexpr int s = paths.sum_of(p, m, n);
                            sums[s] = fma(tangent ? moved[n] : sent[n], harmonic, sums[s]);
                            if constexpr (tangent) sums[s] = fma(sent[n], d_harmonic, sums[s]);
                        }
                    });
                });
            }
        });
    }
    T* out = products + at.first_product * V::lanes;
    repeat<paths.count>([&](auto path) MACEKIT_LAMBDA {
        constexpr int p = decltype(path)::value, components = 2 * paths.l_sh[p] + 1;
        if constexpr (paths.group[p] == group)
            repeat<components>([&](auto mm) MACEKIT_LAMBDA {
                repeat<inputs>([&](auto nn) MACEKIT_LAMBDA {
                    constexpr int m = decltype(mm)::value, n = decltype(nn)::value;
                    if constexpr (paths.has(p, m, n))
                        sums[paths.sum_of(p, m, n)].store(out + (paths.first_product[p] + n * components + m) * V::lanes);
                });
            });
    });
}

// Products U of all paths, or their tangent.
template <class T, int l_in, int max_ell, bool tangent>
void sum_table_edges(const TableEdges<T>& b, std::int64_t begin, std::int64_t end, const SenderDegree& at, T* products) {
    static constexpr Paths<l_in, max_ell, kProductsAtOnce> paths;
    repeat<paths.groups>([&](auto group) MACEKIT_LAMBDA {
        sum_group<T, l_in, max_ell, tangent, decltype(group)::value>(b, begin, end, at, products);
    });
}

// Features of the sender of an edge and their gradients, of one degree.
template <class T, int inputs>
struct SenderOfEdge {
    Register<T> h[inputs], dh[inputs], to_h[inputs];
};

// Gradients of one edge by one path.
template <class T, int l_in, int max_ell, int p, bool tangent, bool geometry, bool weights, bool both>
MACEKIT_INLINE void pull_table_path(const T* row, const T* numbers, const T* g, const T* besides, const T* y, const T* dy,
                                    SenderOfEdge<T, 2 * l_in + 1>& sender, Register<T>* to_y, Register<T>& to_length,
                                    T* to_row) {
    using V = Register<T>;
    static constexpr Paths<l_in, max_ell, kProductsAtOnce> paths;
    constexpr int inputs = 2 * l_in + 1, components = 2 * paths.l_sh[p] + 1;
    V rows[kSplineRows], u[inputs], du[inputs], message[inputs];
    load_rows<paths.count>(row + p * V::lanes, rows);
    const V weight = interpolate(rows, numbers + kValue);
    const V d_weight = tangent ? interpolate(rows, numbers + kMoved) : V::zero();
    const V slope = geometry ? interpolate(rows, numbers + kSlope) : V::zero();
    const V d_slope = geometry && tangent ? interpolate(rows, numbers + kMovedSlope) : V::zero();
    repeat<inputs>([&](auto nn) MACEKIT_LAMBDA {
        constexpr int n = decltype(nn)::value;
        u[n] = du[n] = V::zero();
        if constexpr (geometry)
            message[n] = tangent ? fma(d_weight, sender.h[n], weight * sender.dh[n]) : weight * sender.h[n];
    });
    // harmonics outside: what they meet are few sums, which stay in registers
    repeat<components>([&](auto mm) MACEKIT_LAMBDA {
        constexpr int m = decltype(mm)::value;
        const V harmonic = V::all(y[m]), d_harmonic = tangent ? V::all(dy[m]) : V::zero();
        repeat<inputs>([&](auto nn) MACEKIT_LAMBDA {
            constexpr int n = decltype(nn)::value;
            if constexpr (paths.has(p, m, n)) {
                constexpr int at = (paths.first_product[p] + n * components + m) * V::lanes;
                const V product = V::load(g + at);
                u[n] = fma(product, harmonic, u[n]);
                if constexpr (tangent) du[n] = fma(product, d_harmonic, du[n]);
                if constexpr (both) du[n] = fma(V::load(besides + at), harmonic, du[n]);
                if constexpr (geometry) to_y[m] = fma(product, message[n], to_y[m]);
            }
        });
    });
    V along = V::zero(), d_along = V::zero();  // Σ_n u h and its tangent
    repeat<inputs>([&](auto nn) MACEKIT_LAMBDA {
        constexpr int n = decltype(nn)::value;
        along = fma(u[n], sender.h[n], along);
        sender.to_h[n] = fma(tangent ? d_weight : weight, u[n], sender.to_h[n]);
        if constexpr (tangent) {
            d_along = fma(u[n], sender.dh[n], fma(du[n], sender.h[n], d_along));
            sender.to_h[n] = fma(weight, du[n], sender.to_h[n]);
        }
    });
    if constexpr (geometry) to_length = fma(slope, tangent ? d_along : along, to_length);
    if constexpr (geometry && tangent) to_length = fma(d_slope, along, to_length);
    if constexpr (weights)
        repeat<kSplineRows>([&](auto q) MACEKIT_LAMBDA {
            T* to = to_row + (q.value * paths.count + p) * V::lanes;
            V total = fma(tangent ? d_along : along, V::all(numbers[kValue + q.value]), V::load(to));
            if constexpr (tangent) total = fma(along, V::all(numbers[kMoved + q.value]), total);
            total.store(to);
        });
}

// Gradients of some edges of a receiver.
template <class T, int l_in, int max_ell, bool tangent, bool geometry, bool weights, bool both>
void pull_table_edges(const TableEdges<T>& b, std::int64_t begin, std::int64_t end, const SenderDegree& at,
                      const TableGradients<T>& gradients) {
    using V = Register<T>;
    static constexpr Paths<l_in, max_ell, kProductsAtOnce> paths;
    constexpr int harmonics = (max_ell + 1) * (max_ell + 1), inputs = 2 * l_in + 1;
    const std::int64_t h_step = b.h_step, dh_step = b.dh_step;
    const std::int64_t first_row = b.rows * at.first_path * V::lanes;
    const T* g = gradients.pulled + at.first_product * V::lanes;
    const T* besides = both ? gradients.besides + at.first_product * V::lanes : nullptr;
    T* const to_table = weights ? gradients.to_table + first_row : nullptr;
    T* const to_features = gradients.to_h + at.first_input * V::lanes;
    const T* const table = b.table + first_row;
    const T* const features = b.h + at.first_input * V::lanes;
    const T* const d_features = tangent ? b.dh + at.first_input * V::lanes : nullptr;
    const T *numbers = b.splines + begin * kSplineNumbers, *y = b.y + begin * harmonics;
    const T* dy = tangent ? b.dy + begin * harmonics : nullptr;
    T* to_geometry = gradients.to_geometry;
    const PackedEdge* const edges = b.edges;
    for (std::int64_t e = begin; e < end; ++e) {
        const PackedEdge edge = edges[e];
        const std::int64_t place = edge.row * (paths.count * V::lanes);
        const T* row = table + place;
        T* to_row = weights ? to_table + place : nullptr;
        T* to_h = to_features + edge.atom * h_step;
        SenderOfEdge<T, inputs> sender;
        repeat<inputs>([&](auto nn) MACEKIT_LAMBDA {
            constexpr int n = decltype(nn)::value;
            sender.h[n] = V::load(features + edge.atom * h_step + n * V::lanes);
            if constexpr (tangent) sender.dh[n] = V::load(d_features + edge.atom * dh_step + n * V::lanes);
            sender.to_h[n] = V::load(to_h + n * V::lanes);
        });
        V to_length = geometry ? V::load(to_geometry + harmonics * V::lanes) : V::zero();
        repeat<max_ell + 1>([&](auto degree) MACEKIT_LAMBDA {
            constexpr int sh = decltype(degree)::value, components = 2 * sh + 1;
            V to_y[components];
            if constexpr (geometry)
                repeat<components>([&](auto mm) MACEKIT_LAMBDA {
                    constexpr int m = decltype(mm)::value;
                    to_y[m] = V::load(to_geometry + (sh * sh + m) * V::lanes);
                });
            repeat<paths.count>([&](auto path) MACEKIT_LAMBDA {
                constexpr int p = decltype(path)::value;
                if constexpr (paths.l_sh[p] == sh)
                    pull_table_path<T, l_in, max_ell, p, tangent, geometry, weights, both>(
                        row, numbers, g, besides, y + sh * sh, tangent ? dy + sh * sh : nullptr, sender, to_y, to_length,
                        to_row);
            });
            if constexpr (geometry)
                repeat<components>([&](auto mm) MACEKIT_LAMBDA {
                    constexpr int m = decltype(mm)::value;
                    to_y[m].store(to_geometry + (sh * sh + m) * V::lanes);
                });
        });
        repeat<inputs>([&](auto nn) MACEKIT_LAMBDA {
            constexpr int n = decltype(nn)::value;
            sender.to_h[n].store(to_h + n * V::lanes);
        });
        if constexpr (geometry) {
            to_length.store(to_geometry + harmonics * V::lanes);
            to_geometry += (harmonics + 1) * V::lanes;
        }
        numbers += kSplineNumbers;
        y += harmonics;
        if constexpr (tangent) dy += harmonics;
    }
}

template <class T, int l_in, int max_ell>
TableSweeps<T> table_sweeps_of_degree() {
    return {sum_table_edges<T, l_in, max_ell, false>,
            sum_table_edges<T, l_in, max_ell, true>,
            pull_table_edges<T, l_in, max_ell, false, true, false, false>,
            pull_table_edges<T, l_in, max_ell, false, true, true, false>,
            pull_table_edges<T, l_in, max_ell, true, true, true, false>,
            pull_table_edges<T, l_in, max_ell, true, false, true, true>};
}

template <class T, int max_ell>
TableSweeps<T> table_sweeps_of(int l_in) {
    switch (l_in) {
        case 0: return table_sweeps_of_degree<T, 0, max_ell>();
        case 1: return table_sweeps_of_degree<T, 1, max_ell>();
        default: return table_sweeps_of_degree<T, 2, max_ell>();  // higher ones would take minutes to compile
    }
}

}  // namespace
}  // namespace macekit
