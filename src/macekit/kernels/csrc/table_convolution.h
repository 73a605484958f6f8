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

// An edge in the order of receivers: where its sender's features and its rows of the table begin when packed.
struct PackedEdge {
    std::int32_t atom, row;
};

template <class T>
struct TableBlock {
    using V = Register<T>;
    static constexpr int lanes = V::lanes;
    const ConvolutionStructure<T>& structure;
    const TableArguments<T>& arguments;
    const PackedEdge* edges;
    const T* splines;          // [edge][kSplineNumbers]
    const T *y, *dy;           // [edge][harmonics]
    const T *table, *d_table;  // packed; the tangent may be null
    const T *h, *dh;           // packed; without a tangent, one row of zeros
    int dh_step;               // 1, or 0 where the tangent is a row of zeros

    MACEKIT_INLINE void rows_of(const T* packed, const Path& path, std::int64_t row, V (&rows)[kSplineRows]) const {
        const T* first = packed + (path.index * arguments.rows + row) * lanes;
        repeat<kSplineRows>([&](auto q) MACEKIT_LAMBDA { rows[q.value] = V::load(first + q.value * lanes); });
    }
    MACEKIT_INLINE std::int64_t at(const PackedEdge& edge, const Path& path) const {
        return (static_cast<std::int64_t>(edge.atom) * structure.dim_in + path.first_input) * lanes;
    }

    // Calls function(Number<M>, first) for the components of the sender of a path, M at once, as registers allow.
    template <int D, int spare, class Function>
    static MACEKIT_INLINE void in_parts(int inputs, const Function& function) {
        constexpr int fit = (kRegisters - spare) / D, most = fit < 1 ? 1 : fit > 3 ? 3 : fit;
        for (int m = 0; m < inputs; m += most) {
            const int left = inputs - m;
            if (most >= 3 && left >= 3)
                function(Number<3 <= most ? 3 : 1>(), m);
            else if (most >= 2 && left >= 2)
                function(Number<2 <= most ? 2 : 1>(), m);
            else
                function(Number<1>(), m);
        }
    }

    // Products U of one path, or their tangent along (h', Y', r', T'), [component of the sender][component of Y][lanes].
    template <int D, bool tangent>
    void sum_edges(const Path& path, std::int64_t begin, std::int64_t end, T* products) const {
        in_parts<D, tangent ? 8 : 4>(path.inputs, [&](auto inputs, int first) {
            sum<decltype(inputs)::value, D, tangent>(path, first, begin, end, products + first * D * lanes);
        });
    }

    template <int M, int D, bool tangent>
    MACEKIT_INLINE void sum(const Path& path, int first, std::int64_t begin, std::int64_t end, T* products) const {
        V sums[M * D];
        repeat<M * D>([&](auto i) MACEKIT_LAMBDA { sums[i.value] = V::zero(); });
        const int harmonics = structure.harmonics();
        const T* table_of_path = table + path.index * arguments.rows * lanes;
        const T* y_of_edge = y + begin * harmonics + path.degree * path.degree;
        const T* dy_of_edge = tangent ? dy + begin * harmonics + path.degree * path.degree : nullptr;
        const T* numbers = splines + begin * kSplineNumbers;
        const std::int64_t width = static_cast<std::int64_t>(structure.dim_in) * lanes;
        const std::int64_t offset = static_cast<std::int64_t>(path.first_input + first) * lanes;
        for (std::int64_t n = begin; n < end; ++n, numbers += kSplineNumbers, y_of_edge += harmonics) {
            const PackedEdge edge = edges[n];
            const Spline<T> spline{numbers};
            const T* feature = h + edge.atom * width + offset;
            V rows[kSplineRows];
            repeat<kSplineRows>([&](auto q) MACEKIT_LAMBDA {
                rows[q.value] = V::load(table_of_path + (edge.row + q.value) * static_cast<std::int64_t>(lanes));
            });
            const V weight = interpolate(rows, spline.value());
            V inputs[M], moved[M];
            if constexpr (tangent) {
                V d_weight = interpolate(rows, spline.moved());
                if (d_table) {
                    rows_of(d_table, path, edge.row, rows);
                    d_weight = d_weight + interpolate(rows, spline.value());
                }
                const T* d_feature = dh + edge.atom * dh_step * width + offset;
                repeat<M>([&](auto m) MACEKIT_LAMBDA {
                    const V x = V::load(feature + m.value * lanes);
                    inputs[m.value] = weight * x;
                    moved[m.value] = fma(d_weight, x, weight * V::load(d_feature + m.value * lanes));
                });
            } else {
                repeat<M>([&](auto m) MACEKIT_LAMBDA { moved[m.value] = weight * V::load(feature + m.value * lanes); });
            }
            repeat<D>([&](auto d) MACEKIT_LAMBDA {
                const V harmonic = V::all(y_of_edge[d.value]);
                repeat<M>([&](auto m) MACEKIT_LAMBDA {
                    sums[m.value * D + d.value] = fma(moved[m.value], harmonic, sums[m.value * D + d.value]);
                });
            });
            if constexpr (tangent) {
                repeat<D>([&](auto d) MACEKIT_LAMBDA {
                    const V harmonic = V::all(dy_of_edge[d.value]);
                    repeat<M>([&](auto m) MACEKIT_LAMBDA {
                        sums[m.value * D + d.value] = fma(inputs[m.value], harmonic, sums[m.value * D + d.value]);
                    });
                });
                dy_of_edge += harmonics;
            }
        }
        repeat<M * D>([&](auto i) MACEKIT_LAMBDA { sums[i.value].store(products + i.value * lanes); });
    }

    // Rows of the output that belong to the path of a position among the paths, for some receivers: their products are
    // `stride` numbers apart, their rows of the output follow each other.
    template <int receivers, class Lanes>
    void couple(int position, const T* products, std::int64_t stride, T* out, Lanes valid) const {
        const Sparse<T>& terms = structure.path_terms;
        const T* first = products - structure.paths[position].first_product * lanes;
        for (int n = structure.path_rows[position]; n < structure.path_rows[position + 1]; ++n) {
            V totals[receivers];
            repeat<receivers>([&](auto i) MACEKIT_LAMBDA { totals[i.value] = V::zero(); });
            for (int t = terms.start[n]; t < terms.start[n + 1]; ++t) {
                const V factor = V::all(terms.value[t]);
                const T* product = first + terms.column[t] * lanes;
                repeat<receivers>([&](auto i) MACEKIT_LAMBDA {
                    totals[i.value] = fma(factor, V::load(product + i.value * stride), totals[i.value]);
                });
            }
            T* row = out + terms.row[n] * arguments.channels;
            repeat<receivers>([&](auto i) MACEKIT_LAMBDA {
                totals[i.value].store(row + i.value * structure.dim_out * arguments.channels, valid);
            });
        }
    }

    // G of some receivers out of the gradients of their outputs, which follow each other; G are `stride` numbers apart.
    // The gradients are copied to `rows` first: at the distances they have in memory few of them fit in the first cache.
    template <int receivers, class Lanes>
    void pull(const T* grad, T* rows, T* products, std::int64_t stride, Lanes valid) const {
        for (int row = 0; row < structure.dim_out; ++row)
            repeat<receivers>([&](auto i) MACEKIT_LAMBDA {
                V::load(grad + (static_cast<std::int64_t>(i.value) * structure.dim_out + row) * arguments.channels, valid)
                    .store(rows + (row * receivers + i.value) * lanes);
            });
        const Sparse<T>& terms = structure.product_terms;
        for (int n = 0; n < terms.rows; ++n) {
            V totals[receivers];
            repeat<receivers>([&](auto i) MACEKIT_LAMBDA { totals[i.value] = V::zero(); });
            for (int t = terms.start[n]; t < terms.start[n + 1]; ++t) {
                const V factor = V::all(terms.value[t]);
                const T* row = rows + terms.column[t] * receivers * lanes;
                repeat<receivers>([&](auto i) MACEKIT_LAMBDA {
                    totals[i.value] = fma(factor, V::load(row + i.value * lanes), totals[i.value]);
                });
            }
            repeat<receivers>([&](auto i) MACEKIT_LAMBDA {
                totals[i.value].store(products + terms.row[n] * lanes + i.value * stride);
            });
        }
    }

    // Gradients of some edges of a receiver by one path. `pulled` is G of the gradient by the output; with a tangent it is
    // that of the tangent's gradient, and `besides`, where there is one, that by the output itself. Gradients by the
    // geometry are sums over lanes still to be made, in `sums`: [edge][harmonics, then distance][lanes].
    template <int D, bool tangent, bool geometry, bool weights, bool both>
    void pull_edges(const Path& path, std::int64_t begin, std::int64_t end, const T* pulled, const T* besides, T* to_h,
                    T* to_table, T* sums) const {
        const int harmonics = structure.harmonics(), inputs = path.inputs;
        const T* table_of_path = table + path.index * arguments.rows * lanes;
        T* to_table_of_path = weights ? to_table + path.index * arguments.rows * lanes : nullptr;
        const T* y_of_edge = y + begin * harmonics + path.degree * path.degree;
        const T* dy_of_edge = tangent ? dy + begin * harmonics + path.degree * path.degree : nullptr;
        const T* numbers = splines + begin * kSplineNumbers;
        const std::int64_t width = static_cast<std::int64_t>(structure.dim_in) * lanes;
        const std::int64_t offset = static_cast<std::int64_t>(path.first_input) * lanes;
        pulled += path.first_product * lanes;
        if constexpr (both) besides += path.first_product * lanes;
        for (std::int64_t n = begin; n < end; ++n, numbers += kSplineNumbers, y_of_edge += harmonics) {
            const PackedEdge edge = edges[n];
            const Spline<T> spline{numbers};
            V rows[kSplineRows], slope, d_weight, d_slope;
            const std::int64_t row = edge.row * static_cast<std::int64_t>(lanes);
            repeat<kSplineRows>([&](auto q) MACEKIT_LAMBDA {
                rows[q.value] = V::load(table_of_path + row + q.value * lanes);
            });
            const V weight = interpolate(rows, spline.value());
            if constexpr (geometry) slope = interpolate(rows, spline.slope());
            if constexpr (tangent) d_weight = interpolate(rows, spline.moved());
            if constexpr (tangent && geometry) d_slope = interpolate(rows, spline.moved_slope());
            if (tangent && d_table) {
                rows_of(d_table, path, edge.row, rows);
                d_weight = d_weight + interpolate(rows, spline.value());
                if constexpr (geometry) d_slope = d_slope + interpolate(rows, spline.slope());
            }
            T* sums_of_edge = geometry ? sums + (n - begin) * (harmonics + 1) * lanes : nullptr;
            V harmonic[D], d_harmonic[D], to_y[D], along = V::zero(), d_along = V::zero();  // Σ_m u h and its tangent
            repeat<D>([&](auto d) MACEKIT_LAMBDA {
                harmonic[d.value] = V::all(y_of_edge[d.value]);
                if constexpr (tangent) d_harmonic[d.value] = V::all(dy_of_edge[d.value]);
                if constexpr (geometry)
                    to_y[d.value] = V::load(sums_of_edge + (path.degree * path.degree + d.value) * lanes);
            });
            const T* feature = h + edge.atom * width + offset;
            const T* d_feature = tangent ? dh + edge.atom * dh_step * width + offset : nullptr;
            T* to_feature = to_h + edge.atom * width + offset;
            const T *g = pulled, *g_besides = besides;
            for (int m = 0; m < inputs; ++m) {
                const V x = V::load(feature + m * lanes);
                const V dx = tangent ? V::load(d_feature + m * lanes) : V::zero();
                V message;
                if constexpr (geometry) message = tangent ? fma(d_weight, x, weight * dx) : weight * x;
                V u = V::zero(), du = V::zero();
                repeat<D>([&](auto d) MACEKIT_LAMBDA {
                    const V product = V::load(g + d.value * lanes);
                    u = d.value == 0 ? product * harmonic[0] : fma(product, harmonic[d.value], u);
                    if constexpr (tangent)
                        du = d.value == 0 ? product * d_harmonic[0] : fma(product, d_harmonic[d.value], du);
                    if constexpr (both) du = fma(V::load(g_besides + d.value * lanes), harmonic[d.value], du);
                    if constexpr (geometry) to_y[d.value] = fma(product, message, to_y[d.value]);
                });
                g += D * lanes;
                if constexpr (both) g_besides += D * lanes;
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
            if constexpr (geometry) {
                repeat<D>([&](auto d) MACEKIT_LAMBDA {
                    to_y[d.value].store(sums_of_edge + (path.degree * path.degree + d.value) * lanes);
                });
                T* by_length = sums_of_edge + harmonics * lanes;
                V to_length = fma(slope, tangent ? d_along : along, V::load(by_length));
                if constexpr (tangent) to_length = fma(d_slope, along, to_length);
                to_length.store(by_length);
            }
            if constexpr (weights)
                repeat<kSplineRows>([&](auto q) MACEKIT_LAMBDA {
                    T* to_row = to_table_of_path + row + q.value * lanes;
                    V total = fma(tangent ? d_along : along, V::all(spline.value()[q.value]), V::load(to_row));
                    if constexpr (tangent) total = fma(along, V::all(spline.moved()[q.value]), total);
                    total.store(to_row);
                });
            if constexpr (tangent) dy_of_edge += harmonics;
        }
    }
};

}  // namespace
}  // namespace macekit
