// The edge convolution and its backward passes for one receiver and one block of channels (a register).
//
// The sums over edges are kept in products of one component of the sender with one of the harmonics,
//
//     U[p, m1, m2] = Σ_e R[e, p] h[sender(e), m1] Y[e, m2],        A[p, m3] = Σ C[m1, m2, m3] U[p, m1, m2],
//
// so that the coupling C is applied once per receiver. In the backward passes G[p, m1, m2] = Σ_m3 C[m1, m2, m3] g[p, m3]
// pulls the gradient back once per receiver, and every edge needs two multiplications per product.
#pragma once

#include "arguments.h"
#include "vector.h"

namespace macekit {
namespace {

// Calls function(Number<2l + 1>) for a degree l of the harmonics that is known only at run time.
template <class Function>
MACEKIT_INLINE void with_components(int degree, const Function& function) {
    switch (degree) {
        case 0: return function(Number<1>());
        case 1: return function(Number<3>());
        case 2: return function(Number<5>());
        case 3: return function(Number<7>());
        case 4: return function(Number<9>());
    }
}

// How many components of the sender are summed at once: their products with D harmonics stay in registers.
constexpr int inputs_at_once(int components) {
    const int most = (kRegisters - 4) / components;
    return most < 1 ? 1 : most > 3 ? 3 : most;
}

template <class T, class Lanes>
struct ConvolutionBlock {
    using V = Register<T>;
    const ConvolutionStructure<T>& structure;
    const Edges& edges;
    const ConvolutionArguments<T>& arguments;
    std::int64_t tangent_h_stride, tangent_radial_stride;  // 0 where the tangent is a row of zeros
    std::int64_t channel;                                  // first of the block
    Lanes lanes;

    // Products U of all paths, [products][lanes].
    template <bool tangent, bool y_moves>
    void sum_edges(std::int64_t begin, std::int64_t end, T* products) const {
        for (int p = 0; p < structure.num_paths; ++p) {
            const Path& path = structure.paths[p];
            with_components(path.degree, [&](auto components) {
                constexpr int D = decltype(components)::value;
                constexpr int most = inputs_at_once(D);
                T* out = products + path.first_product * V::lanes;
                for (int m = 0; m < path.inputs; m += most, out += most * D * V::lanes) {
                    const int left = path.inputs - m;
                    if (most >= 3 && left >= 3)
                        sum<3 <= most ? 3 : 1, D, tangent, y_moves>(path, m, begin, end, out);
                    else if (most >= 2 && left >= 2)
                        sum<2 <= most ? 2 : 1, D, tangent, y_moves>(path, m, begin, end, out);
                    else
                        sum<1, D, tangent, y_moves>(path, m, begin, end, out);
                }
            });
        }
    }

    // U, or its tangent along (h', Y', R'), for M components of the sender from the first on.
    template <int M, int D, bool tangent, bool y_moves>
    void sum(const Path& path, int first, std::int64_t begin, std::int64_t end, T* products) const {
        constexpr int kSets = M * D <= 9 && !tangent ? 2 : 1;  // two sums where one would wait for itself
        V sums[kSets][M * D];
        repeat<kSets>([&](auto s) MACEKIT_LAMBDA {
            repeat<M * D>([&](auto i) MACEKIT_LAMBDA { sums[s.value][i.value] = V::zero(); });
        });
        std::int64_t n = begin;
        for (; n + kSets <= end; n += kSets)
            repeat<kSets>([&](auto s) MACEKIT_LAMBDA {
                add<M, D, tangent, y_moves>(path, first, n + s.value, sums[s.value]);
            });
        if (n < end) add<M, D, tangent, y_moves>(path, first, n, sums[0]);
        repeat<M * D>([&](auto i) MACEKIT_LAMBDA {
            V total = sums[0][i.value];
            if constexpr (kSets == 2) total = total + sums[kSets - 1][i.value];
            total.store(products + i.value * V::lanes);
        });
    }

    // The part of one edge.
    template <int M, int D, bool tangent, bool y_moves>
    MACEKIT_INLINE void add(const Path& path, int first, std::int64_t n, V (&sums)[M * D]) const {
        const std::int64_t K = arguments.channels, edge = edges.edge[n], sender = edges.sender[n];
        const std::int64_t h_at = (path.first_input + first) * K + channel, radial_at = path.index * K + channel;
        const std::int64_t y_at = edge * structure.harmonics() + path.degree * path.degree;
        const T *h = arguments.h + sender * structure.dim_in * K + h_at, *y = arguments.y + y_at;
        const T *dh = nullptr, *dy = nullptr;
        const V weight = V::load(arguments.radial + edge * structure.num_paths * K + radial_at, lanes);
        V d_weight = V::zero();
        if constexpr (tangent) {
            dh = arguments.tangent_h + sender * tangent_h_stride + h_at;
            d_weight = V::load(arguments.tangent_radial + edge * tangent_radial_stride + radial_at, lanes);
        }
        if constexpr (y_moves) dy = arguments.tangent_y + y_at;
        V inputs[M], moved[M];
        repeat<M>([&](auto m) MACEKIT_LAMBDA {
            const V feature = V::load(h + m.value * K, lanes);
            inputs[m.value] = weight * feature;
            if constexpr (tangent)
                moved[m.value] = fma(d_weight, feature, weight * V::load(dh + m.value * K, lanes));
            else
                moved[m.value] = inputs[m.value];
        });
        repeat<D>([&](auto d) MACEKIT_LAMBDA {
            const V harmonic = V::all(y[d.value]);
            repeat<M>([&](auto m) MACEKIT_LAMBDA {
                V& total = sums[m.value * D + d.value];
                total = fma(moved[m.value], harmonic, total);
            });
            if constexpr (y_moves) {
                const V d_harmonic = V::all(dy[d.value]);
                repeat<M>([&](auto m) MACEKIT_LAMBDA {
                    V& total = sums[m.value * D + d.value];
                    total = fma(inputs[m.value], d_harmonic, total);
                });
            }
        });
    }

    // Rows of the output of a receiver out of its products.
    void couple(const T* products, T* out) const {
        const Sparse<T>& terms = structure.row_terms;
        for (int n = 0; n < terms.rows; ++n) {
            V total = V::zero();
            for (int t = terms.start[n]; t < terms.start[n + 1]; ++t)
                total = fma(V::all(terms.value[t]), V::load(products + terms.column[t] * V::lanes), total);
            total.store(out + terms.row[n] * arguments.channels + channel, lanes);
        }
    }

    // G of a receiver out of the gradient of its output.
    void pull(const T* grad, T* products) const {
        const Sparse<T>& terms = structure.product_terms;
        for (int n = 0; n < terms.rows; ++n) {
            V total = V::zero();
            for (int t = terms.start[n]; t < terms.start[n + 1]; ++t) {
                const T* row = grad + terms.column[t] * arguments.channels + channel;
                total = fma(V::all(terms.value[t]), V::load(row, lanes), total);
            }
            total.store(products + terms.row[n] * V::lanes);
        }
    }

    // Gradients of some edges of a receiver; those by the harmonics are added to y_sums, [edge][component][lanes].
    template <bool tangent, bool y_moves>
    void pull_edges(std::int64_t begin, std::int64_t end, const T* pulled, T* to_h, T* y_sums) const {
        for (int degree = 0; degree <= structure.max_ell; ++degree)
            with_components(degree, [&](auto components) {
                constexpr int D = decltype(components)::value;
                for (std::int64_t n = begin; n < end; ++n) {
                    T* sums = y_sums + ((n - begin) * structure.harmonics() + degree * degree) * V::lanes;
                    pull_edge<D, tangent, y_moves>(degree, n, pulled, to_h, sums);
                }
            });
    }

    // The same for one edge and the paths of one degree of the harmonics.
    template <int D, bool tangent, bool y_moves>
    MACEKIT_INLINE void pull_edge(int degree, std::int64_t n, const T* pulled, T* to_h, T* y_sums) const {
        const std::int64_t K = arguments.channels, edge = edges.edge[n], sender = edges.sender[n];
        const T* h = arguments.h + sender * structure.dim_in * K + channel;
        const T* radial = arguments.radial + edge * structure.num_paths * K + channel;
        const T* y = arguments.y + edge * structure.harmonics() + degree * degree;
        const T *dh = nullptr, *d_radial = nullptr, *dy = nullptr;
        if (tangent) {
            dh = arguments.tangent_h + sender * tangent_h_stride + channel;
            d_radial = arguments.tangent_radial + edge * tangent_radial_stride + channel;
        }
        if (y_moves) dy = arguments.tangent_y + edge * structure.harmonics() + degree * degree;
        T* to_sender = to_h + sender * structure.dim_in * K + channel;
        T* to_radial = arguments.to_radial + edge * structure.num_paths * K + channel;
        V to_y[D];
        repeat<D>([&](auto d) MACEKIT_LAMBDA { to_y[d.value] = V::load(y_sums + d.value * V::lanes); });
        for (int p = structure.degree_start[degree]; p < structure.degree_start[degree + 1]; ++p) {
            const Path& path = structure.paths[p];
            const V weight = V::load(radial + path.index * K, lanes);
            const V d_weight = tangent ? V::load(d_radial + path.index * K, lanes) : V::zero();
            const T* g = pulled + path.first_product * V::lanes;
            V for_radial = V::zero();
            for (int m = 0; m < path.inputs; ++m, g += D * V::lanes) {
                const std::int64_t row = (path.first_input + m) * K;
                const V feature = V::load(h + row, lanes);
                const V d_feature = tangent ? V::load(dh + row, lanes) : V::zero();
                const V along = tangent ? fma(d_weight, feature, weight * d_feature) : weight * feature;
                V u = V::zero(), du = V::zero();
                repeat<D>([&](auto d) MACEKIT_LAMBDA {
                    const V product = V::load(g + d.value * V::lanes);
                    u = fma(product, V::all(y[d.value]), u);
                    if constexpr (y_moves) du = fma(product, V::all(dy[d.value]), du);
                    to_y[d.value] = fma(product, along, to_y[d.value]);
                });
                V for_h = V::load(to_sender + row, lanes);
                for_h = fma(tangent ? d_weight : weight, u, for_h);
                for_radial = fma(u, tangent ? d_feature : feature, for_radial);
                if (y_moves) {
                    for_h = fma(weight, du, for_h);
                    for_radial = fma(du, feature, for_radial);
                }
                for_h.store(to_sender + row, lanes);
            }
            for_radial.store(to_radial + path.index * K, lanes);
        }
        repeat<D>([&](auto d) MACEKIT_LAMBDA { to_y[d.value].store(y_sums + d.value * V::lanes); });
    }
};

}  // namespace
}  // namespace macekit
