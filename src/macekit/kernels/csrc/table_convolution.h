// The edge convolution whose radial functions are cubic B-splines of the distance, for one block of channels.
//
//     R[e, p] = Σ_q w_q(r_e) T[g(e) + q, p]
//
// with four weights per edge out of a table T that is packed as [path][row][lanes], so that the rows of one path stay
// in the first-level cache while all edges use them. Features are packed as [atom][component][lanes]. As in
// `convolution.h`, U[p, m1, m2] = Σ_e R h Y is summed over edges and coupled once per receiver, and G is the gradient
// pulled back through the coupling once per receiver.
#pragma once

#include "arguments.h"
#include "convolution.h"
#include "vector.h"

namespace macekit {
namespace {

constexpr int kSplineRows = 4;                  // rows of the table that an edge sees
constexpr int kSplineNumbers = 4 * kSplineRows; // of one edge: weights, their derivative, and both times the tangent

// What the splines of one edge are made of.
template <class T>
struct Spline {
    const T* numbers;
    MACEKIT_INLINE const T* value() const { return numbers; }
    MACEKIT_INLINE const T* slope() const { return numbers + kSplineRows; }
    MACEKIT_INLINE const T* moved() const { return numbers + 2 * kSplineRows; }       // tangent of value
    MACEKIT_INLINE const T* moved_slope() const { return numbers + 3 * kSplineRows; } // tangent of slope
};

// Σ_q weights[q] rows[q].
template <class V, class T>
MACEKIT_INLINE V interpolate(const V (&rows)[kSplineRows], const T* weights) {
    const V low = fma(rows[1], V::all(weights[1]), rows[0] * V::all(weights[0]));
    return fma(rows[3], V::all(weights[3]), fma(rows[2], V::all(weights[2]), low));
}

template <class T>
struct TableBlock {
    using V = Register<T>;
    static constexpr int lanes = V::lanes;
    const ConvolutionStructure<T>& structure;
    const Edges& edges;
    const TableArguments<T>& arguments;
    const std::int64_t* first_row;  // of the table, by edge in the order of receivers
    const T* splines;               // [edge][kSplineNumbers], in the order of receivers
    const T *table, *d_table;       // packed; the tangent may be null
    const T *h, *dh;                // packed
    std::int64_t dh_stride;         // 0 where the tangent is a row of zeros
    const T *dy;                    // [edge][harmonics]; stride 0 where it is zeros
    std::int64_t dy_stride;

    MACEKIT_INLINE const T* features(std::int64_t sender, const Path& path) const {
        return h + (sender * structure.dim_in + path.first_input) * lanes;
    }
    MACEKIT_INLINE void rows_of(const T* packed, const Path& path, std::int64_t row, V (&rows)[kSplineRows]) const {
        const T* first = packed + (path.index * arguments.rows + row) * lanes;
        repeat<kSplineRows>([&](auto q) MACEKIT_LAMBDA { rows[q.value] = V::load(first + q.value * lanes); });
    }

    // Products U of one path, or their tangent along (h', Y', r', T'), [component of the sender][component of Y][lanes].
    template <int D, bool tangent>
    void sum_edges(const Path& path, std::int64_t begin, std::int64_t end, T* products) const {
        constexpr int fit = (kRegisters - (tangent ? 8 : 4)) / D;
        constexpr int most = fit < 1 ? 1 : fit > 3 ? 3 : fit;
        for (int m = 0; m < path.inputs; m += most, products += most * D * lanes) {
            const int left = path.inputs - m;
            if (most >= 3 && left >= 3)
                sum<3 <= most ? 3 : 1, D, tangent>(path, m, begin, end, products);
            else if (most >= 2 && left >= 2)
                sum<2 <= most ? 2 : 1, D, tangent>(path, m, begin, end, products);
            else
                sum<1, D, tangent>(path, m, begin, end, products);
        }
    }

    template <int M, int D, bool tangent>
    MACEKIT_INLINE void sum(const Path& path, int first, std::int64_t begin, std::int64_t end, T* products) const {
        V sums[M * D];
        repeat<M * D>([&](auto i) MACEKIT_LAMBDA { sums[i.value] = V::zero(); });
        for (std::int64_t n = begin; n < end; ++n) {
            const std::int64_t sender = edges.sender[n];
            const Spline<T> spline{splines + n * kSplineNumbers};
            const T* y = arguments.y + edges.edge[n] * structure.harmonics() + path.degree * path.degree;
            const T* feature = features(sender, path) + first * lanes;
            V rows[kSplineRows];
            rows_of(table, path, first_row[n], rows);
            const V weight = interpolate(rows, spline.value());
            V inputs[M], moved[M];
            if constexpr (tangent) {
                V d_weight = interpolate(rows, spline.moved());
                if (d_table) {
                    rows_of(d_table, path, first_row[n], rows);
                    d_weight = d_weight + interpolate(rows, spline.value());
                }
                const T* d_feature = dh + sender * dh_stride + (path.first_input + first) * lanes;
                repeat<M>([&](auto m) MACEKIT_LAMBDA {
                    const V x = V::load(feature + m.value * lanes);
                    inputs[m.value] = weight * x;
                    moved[m.value] = fma(d_weight, x, weight * V::load(d_feature + m.value * lanes));
                });
            } else {
                repeat<M>([&](auto m) MACEKIT_LAMBDA { moved[m.value] = weight * V::load(feature + m.value * lanes); });
            }
            repeat<D>([&](auto d) MACEKIT_LAMBDA {
                const V harmonic = V::all(y[d.value]);
                repeat<M>([&](auto m) MACEKIT_LAMBDA {
                    sums[m.value * D + d.value] = fma(moved[m.value], harmonic, sums[m.value * D + d.value]);
                });
            });
            if constexpr (tangent) {
                const T* y_moves = dy + edges.edge[n] * dy_stride + path.degree * path.degree;
                repeat<D>([&](auto d) MACEKIT_LAMBDA {
                    const V harmonic = V::all(y_moves[d.value]);
                    repeat<M>([&](auto m) MACEKIT_LAMBDA {
                        sums[m.value * D + d.value] = fma(inputs[m.value], harmonic, sums[m.value * D + d.value]);
                    });
                });
            }
        }
        repeat<M * D>([&](auto i) MACEKIT_LAMBDA { sums[i.value].store(products + i.value * lanes); });
    }

    // Rows of the output that belong to the path of a position among the paths.
    template <class Lanes>
    void couple(int position, const T* products, T* out, Lanes valid) const {
        const Sparse<T>& terms = structure.path_terms;
        const int first = structure.paths[position].first_product;
        for (int n = structure.path_rows[position]; n < structure.path_rows[position + 1]; ++n) {
            V total = V::zero();
            for (int t = terms.start[n]; t < terms.start[n + 1]; ++t)
                total = fma(V::all(terms.value[t]), V::load(products + (terms.column[t] - first) * lanes), total);
            total.store(out + terms.row[n] * arguments.channels, valid);
        }
    }

    // G of a receiver out of the gradient of its output.
    template <class Lanes>
    void pull(const T* grad, T* products, Lanes valid) const {
        const Sparse<T>& terms = structure.product_terms;
        for (int n = 0; n < terms.rows; ++n) {
            V total = V::zero();
            for (int t = terms.start[n]; t < terms.start[n + 1]; ++t)
                total = fma(V::all(terms.value[t]), V::load(grad + terms.column[t] * arguments.channels, valid), total);
            total.store(products + terms.row[n] * lanes);
        }
    }

    // Gradients of some edges of a receiver. Those by the geometry are sums over lanes still to be made, in `sums`:
    // [edge][harmonics, then distance][lanes].
    template <bool tangent, bool geometry, bool weights>
    void pull_edges(std::int64_t begin, std::int64_t end, const T* pulled, T* to_h, T* to_table, T* sums) const {
        const int rows = structure.harmonics() + 1;
        for (int degree = 0; degree <= structure.max_ell; ++degree)
            with_components(degree, [&](auto components) {
                constexpr int D = decltype(components)::value;
                for (std::int64_t n = begin; n < end; ++n)
                    pull_edge<D, tangent, geometry, weights>(degree, n, pulled, to_h, to_table,
                                                             geometry ? sums + (n - begin) * rows * lanes : nullptr);
            });
    }

    template <int D, bool tangent, bool geometry, bool weights>
    MACEKIT_INLINE void pull_edge(int degree, std::int64_t n, const T* pulled, T* to_h, T* to_table, T* sums) const {
        const std::int64_t sender = edges.sender[n], edge = edges.edge[n];
        const Spline<T> spline{splines + n * kSplineNumbers};
        const T* y = arguments.y + edge * structure.harmonics() + degree * degree;
        const T* y_moves = tangent ? dy + edge * dy_stride + degree * degree : nullptr;
        V to_y[D], to_length = V::zero();
        if constexpr (geometry) {
            repeat<D>([&](auto d) MACEKIT_LAMBDA { to_y[d.value] = V::zero(); });
            if (degree > 0) to_length = V::load(sums + structure.harmonics() * lanes);
        }
        for (int p = structure.degree_start[degree]; p < structure.degree_start[degree + 1]; ++p) {
            const Path& path = structure.paths[p];
            V rows[kSplineRows];
            rows_of(table, path, first_row[n], rows);
            const V weight = interpolate(rows, spline.value());
            V slope, d_weight, d_slope;
            if constexpr (geometry) slope = interpolate(rows, spline.slope());
            if constexpr (tangent) d_weight = interpolate(rows, spline.moved());
            if constexpr (tangent && geometry) d_slope = interpolate(rows, spline.moved_slope());
            if (tangent && d_table) {
                rows_of(d_table, path, first_row[n], rows);
                d_weight = d_weight + interpolate(rows, spline.value());
                if constexpr (geometry) d_slope = d_slope + interpolate(rows, spline.slope());
            }
            const T* feature = features(sender, path);
            const T* d_feature = tangent ? dh + sender * dh_stride + path.first_input * lanes : nullptr;
            T* to_feature = to_h + (sender * structure.dim_in + path.first_input) * lanes;
            const T* g = pulled + path.first_product * lanes;
            V along = V::zero(), d_along = V::zero();  // Σ_m u h and its tangent
            for (int m = 0; m < path.inputs; ++m, g += D * lanes) {
                const V x = V::load(feature + m * lanes);
                const V dx = tangent ? V::load(d_feature + m * lanes) : V::zero();
                V message;
                if constexpr (geometry) message = tangent ? fma(d_weight, x, weight * dx) : weight * x;
                V u = V::zero(), du = V::zero();
                repeat<D>([&](auto d) MACEKIT_LAMBDA {
                    const V product = V::load(g + d.value * lanes);
                    u = fma(product, V::all(y[d.value]), u);
                    if constexpr (tangent) du = fma(product, V::all(y_moves[d.value]), du);
                    if constexpr (geometry) to_y[d.value] = fma(product, message, to_y[d.value]);
                });
                along = fma(u, x, along);
                V for_h = V::load(to_feature + m * lanes);
                if constexpr (tangent) {
                    d_along = fma(u, dx, fma(du, x, d_along));
                    for_h = fma(d_weight, u, fma(weight, du, for_h));
                } else {
                    for_h = fma(weight, u, for_h);
                }
                for_h.store(to_feature + m * lanes);
            }
            if constexpr (geometry)
                to_length = tangent ? fma(d_slope, along, fma(slope, d_along, to_length)) : fma(slope, along, to_length);
            if constexpr (weights) {
                T* to_rows = to_table + (path.index * arguments.rows + first_row[n]) * lanes;
                repeat<kSplineRows>([&](auto q) MACEKIT_LAMBDA {
                    V total = V::load(to_rows + q.value * lanes);
                    if constexpr (tangent) {
                        total = fma(d_along, V::all(spline.value()[q.value]), total);
                        total = fma(along, V::all(spline.moved()[q.value]), total);
                    } else {
                        total = fma(along, V::all(spline.value()[q.value]), total);
                    }
                    total.store(to_rows + q.value * lanes);
                });
            }
        }
        if constexpr (geometry) {
            repeat<D>([&](auto d) MACEKIT_LAMBDA { to_y[d.value].store(sums + (degree * degree + d.value) * lanes); });
            to_length.store(sums + structure.harmonics() * lanes);
        }
    }
};

}  // namespace
}  // namespace macekit
