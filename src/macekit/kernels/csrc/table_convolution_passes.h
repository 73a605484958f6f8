// The edge convolution with a table of radial functions for all receivers: who does what, and where partial sums go.
//
// A worker owns blocks of channels of a range of receivers. Blocks are the outermost loop: of the table, the features
// and their gradients only one block is in the caches at a time, packed, and what is scattered to senders and to knots
// meets no other worker. Where there are more threads than blocks, ranges of receivers have their own sums.
#pragma once

#include <cmath>

#include "convolution_passes.h"
#include "table_convolution.h"
#include "workspace.h"

namespace macekit {
namespace {

constexpr int kReceiversAtOnce = 4;                    // which share the coefficients of the coupling
constexpr int kMostReceivers = 2 * kReceiversAtOnce;  // of a group, whose edges stay in the caches for all paths
constexpr std::int64_t kEdgesOfGroup = 128;

// First row and weights of an edge of length r, whose tangent is `rate`. Beyond the last knot everything is zero, and
// before the first the radial functions are constant.
template <class T>
std::int64_t make_spline(const TableArguments<T>& arguments, double r, double rate, T* numbers) {
    const double t = (r - arguments.first) / arguments.step, inverse = 1.0 / arguments.step;
    const double last = static_cast<double>(arguments.rows - kSplineRows + 1);
    for (int n = 0; n < kSplineNumbers; ++n) numbers[n] = 0;
    if (!(t < last)) return 0;
    const double g = t > 0.0 ? std::floor(t) : 0.0, u = t > 0.0 ? t - g : 0.0, o = 1.0 - u;
    const double value[] = {o * o * o / 6, (3 * u * u * u - 6 * u * u + 4) / 6, (3 * o * o * o - 6 * o * o + 4) / 6,
                            u * u * u / 6};
    const double slope[] = {-o * o / 2, (3 * u * u - 4 * u) / 2, (-3 * o * o + 4 * o) / 2, u * u / 2};
    const double curvature[] = {o, 3 * u - 2, 3 * o - 2, u};
    const double by_length = t >= 0.0 ? inverse : 0.0;
    for (int q = 0; q < kSplineRows; ++q) {
        numbers[q] = static_cast<T>(value[q]);
        numbers[kSplineRows + q] = static_cast<T>(slope[q] * by_length);
        numbers[2 * kSplineRows + q] = static_cast<T>(slope[q] * by_length * rate);
        numbers[3 * kSplineRows + q] = static_cast<T>(curvature[q] * by_length * by_length * rate);
    }
    return static_cast<std::int64_t>(g);
}

// Copies one block of channels of [outer][inner][K] to [inner][outer][lanes] or, if kept in order, [outer][inner][lanes].
template <class T, class Lanes>
void pack(const T* numbers, std::int64_t outer, std::int64_t inner, bool swap, std::int64_t channels, T* packed,
          Lanes valid) {
    using V = Register<T>;
    for (std::int64_t i = 0; i < outer; ++i)
        for (std::int64_t j = 0; j < inner; ++j)
            V::load(numbers + (i * inner + j) * channels, valid)
                .store(packed + (swap ? j * outer + i : i * inner + j) * V::lanes);
}

template <class T, class Lanes>
void unpack(const T* packed, std::int64_t outer, std::int64_t inner, bool swap, std::int64_t channels, T* numbers,
            Lanes valid) {
    using V = Register<T>;
    for (std::int64_t i = 0; i < outer; ++i)
        for (std::int64_t j = 0; j < inner; ++j)
            V::load(packed + (swap ? j * outer + i : i * inner + j) * V::lanes)
                .store(numbers + (i * inner + j) * channels, valid);
}

// Everything that one pass has in common.
template <class T>
struct TablePass {
    using V = Register<T>;
    const ConvolutionStructure<T>& structure;
    const Edges& edges;
    const TableArguments<T>& arguments;
    int threads;
    std::int64_t blocks = (arguments.channels + V::lanes - 1) / V::lanes;
    Grid grid = Grid(blocks, edges.atoms, threads);
    std::int64_t h_length = edges.atoms * structure.dim_in * arguments.channels;
    std::int64_t table_length = arguments.rows * structure.num_paths * arguments.channels;
    int geometry_rows = structure.harmonics() + 1;

    template <bool forward, bool backward, bool tangent, bool geometry, bool weights, bool both = false>
    void run() const {
        const std::int64_t harmonics = structure.harmonics();
        const Workspace<T> splines(edges.count * kSplineNumbers), y(edges.count * harmonics);
        const Workspace<T> dy(tangent ? edges.count * harmonics : 0);
        const Workspace<PackedEdge> packed(edges.count);
        run_workers(grid.workers(), [&](int worker) {
            const std::int64_t first = part(edges.count, grid.workers(), worker);
            const std::int64_t end = part(edges.count, grid.workers(), worker + 1);
            for (std::int64_t n = first; n < end; ++n) {
                const std::int64_t edge = edges.edge[n];
                const double rate = tangent && arguments.tangent_lengths ? arguments.tangent_lengths[edge] : 0.0;
                const std::int64_t row =
                    make_spline(arguments, arguments.lengths[edge], rate, splines.data() + n * kSplineNumbers);
                packed.data()[n] = {static_cast<std::int32_t>(edges.sender[n]), static_cast<std::int32_t>(row)};
                for (std::int64_t c = 0; c < harmonics; ++c) y.data()[n * harmonics + c] = arguments.y[edge * harmonics + c];
                if (tangent)
                    for (std::int64_t c = 0; c < harmonics; ++c)
                        dy.data()[n * harmonics + c] = arguments.tangent_y ? arguments.tangent_y[edge * harmonics + c] : 0;
            }
        });
        const std::int64_t copies = backward ? grid.ranges - 1 : 0;
        const Workspace<T> h_copies(copies * h_length), table_copies(weights ? copies * table_length : 0);
        const std::int64_t geometry_length = edges.count * geometry_rows;
        const Workspace<T> to_geometry(geometry ? grid.shares * geometry_length : 0);
        run_workers(grid.workers(), [&](int worker) {
            const int share = worker % grid.shares, range = worker / grid.shares;
            const Share owned(grid, worker, blocks, edges);
            T* to_h = range == 0 ? arguments.to_h : h_copies.data() + (range - 1) * h_length;
            T* to_table = range == 0 ? arguments.to_table : table_copies.data() + (range - 1) * table_length;
            T* sums = to_geometry.data() + share * geometry_length;
            if (geometry)
                for (std::int64_t n = edges.start[owned.first_atom]; n < edges.start[owned.end_atom]; ++n)
                    for (int row = 0; row < geometry_rows; ++row) sums[n * geometry_rows + row] = 0;
            const Memory memory(*this, backward, tangent, geometry, weights, both);
            for (std::int64_t b = owned.first_block; b < owned.end_block; ++b) {
                const std::int64_t channel = b * V::lanes, left = arguments.channels - channel;
                const auto body = [&](auto valid) {
                    run_block<forward, backward, tangent, geometry, weights, both>(
                        owned, channel, valid, memory, {packed.data(), splines.data(), y.data(), dy.data()}, to_h,
                        to_table, sums);
                };
                if (left >= V::lanes)
                    body(Full());
                else
                    body(Partial{static_cast<int>(left)});
            }
        });
        if (!backward) return;
        add_copies(arguments.to_h, h_copies.data(), grid.ranges - 1, h_length, grid.workers());
        if (weights)
            add_copies(arguments.to_table, table_copies.data(), grid.ranges - 1, table_length, grid.workers());
        if (geometry) collect(to_geometry.data());
    }

    // What all blocks see of the edges.
    struct Numbers {
        const PackedEdge* edges;
        const T *splines, *y, *dy;
    };

    // Packed numbers of one block, of one worker.
    struct Memory {
        Workspace<T> table, d_table, h, dh, to_h, to_table, grads, products, besides, sums;
        Memory(const TablePass& pass, bool backward, bool tangent, bool geometry, bool weights, bool both)
            : table(pass.packed_table()),
              d_table(tangent && pass.arguments.tangent_table ? pass.packed_table() : 0),
              h(pass.packed_h()),
              dh(!tangent ? 0 : pass.arguments.tangent_h ? pass.packed_h() : pass.structure.dim_in * V::lanes),
              to_h(backward ? pass.packed_h() : 0),
              to_table(weights ? pass.packed_table() : 0),
              grads(backward ? kReceiversAtOnce * pass.structure.dim_out * V::lanes : 0),
              products(kMostReceivers * pass.structure.num_products * V::lanes),
              besides(both ? kMostReceivers * pass.structure.num_products * V::lanes : 0),
              sums(geometry ? kEdgesAtOnce * pass.geometry_rows * V::lanes : 0) {
            if (tangent && !pass.arguments.tangent_h) dh.clear(pass.structure.dim_in * V::lanes);
        }
    };
    std::int64_t packed_table() const { return arguments.rows * structure.num_paths * V::lanes; }
    std::int64_t packed_h() const { return edges.atoms * structure.dim_in * V::lanes; }

    template <bool forward, bool backward, bool tangent, bool geometry, bool weights, bool both, class Lanes>
    void run_block(const Share& owned, std::int64_t channel, Lanes valid, const Memory& memory,
                   const Numbers& numbers, T* to_h, T* to_table, T* sums) const {
        const std::int64_t K = arguments.channels, rows = arguments.rows;
        const int paths = structure.num_paths, inputs = structure.dim_in;
        pack(arguments.table + channel, rows, paths, true, K, memory.table.data(), valid);
        pack(arguments.h + channel, edges.atoms, inputs, false, K, memory.h.data(), valid);
        const T* d_table = nullptr;
        if (tangent && arguments.tangent_table) {
            pack(arguments.tangent_table + channel, rows, paths, true, K, memory.d_table.data(), valid);
            d_table = memory.d_table.data();
        }
        if (tangent && arguments.tangent_h)
            pack(arguments.tangent_h + channel, edges.atoms, inputs, false, K, memory.dh.data(), valid);
        const TableBlock<T> block{structure,   arguments,           numbers.edges,
                                  numbers.splines, numbers.y,       numbers.dy,
                                  memory.table.data(), d_table,     memory.h.data(),
                                  memory.dh.data(), tangent && arguments.tangent_h ? 1 : 0};
        if constexpr (forward) send<tangent>(block, owned, channel, valid, memory.products.data());
        if constexpr (backward) {
            memory.to_h.clear(packed_h());
            if (weights) memory.to_table.clear(packed_table());
            pull_block<tangent, geometry, weights, both>(block, owned, channel, valid, memory, sums);
            unpack(memory.to_h.data(), edges.atoms, inputs, false, K, to_h + channel, valid);
            if (weights) unpack(memory.to_table.data(), rows, paths, true, K, to_table + channel, valid);
        }
    }

    // Calls function(begin, end) for groups of receivers.
    template <class Function>
    MACEKIT_INLINE void in_groups(const Share& owned, std::int64_t most_edges, const Function& function) const {
        for (std::int64_t begin = owned.first_atom, end; begin < owned.end_atom; begin = end) {
            end = begin + 1;
            while (end < owned.end_atom && end - begin < kMostReceivers &&
                   edges.start[end + 1] - edges.start[begin] <= most_edges)
                ++end;
            function(begin, end);
        }
    }
    // Calls function(i, Number<n>) for all receivers i ... i + n - 1 of a group.
    template <class Function>
    static MACEKIT_INLINE void several(std::int64_t begin, std::int64_t end, const Function& function) {
        for (; begin + kReceiversAtOnce <= end; begin += kReceiversAtOnce) function(begin, Number<kReceiversAtOnce>());
        for (; begin < end; ++begin) function(begin, Number<1>());
    }

    // Messages to all receivers.
    template <bool tangent, class Lanes>
    void send(const TableBlock<T>& block, const Share& owned, std::int64_t channel, Lanes valid, T* products) const {
        const std::int64_t row = structure.dim_out * arguments.channels;
        in_groups(owned, kEdgesOfGroup, [&](std::int64_t begin, std::int64_t end) {
            for (int p = 0; p < structure.num_paths; ++p)
                with_components(structure.paths[p].degree, [&](auto components) {
                    constexpr int D = decltype(components)::value;
                    const Path& path = structure.paths[p];
                    const std::int64_t stride = path.inputs * D * V::lanes;
                    several(begin, end, [&](std::int64_t i, auto receivers) {
                        constexpr int count = decltype(receivers)::value;
                        for (int n = 0; n < count; ++n)
                            block.template sum_edges<D, tangent>(path, edges.start[i + n], edges.start[i + n + 1],
                                                                 products + n * stride);
                        block.template couple<count>(p, products, stride, arguments.out + i * row + channel, valid);
                    });
                });
        });
    }

    // Gradients of all edges. Where they are by the geometry, few edges at once: their sums over lanes take memory.
    template <bool tangent, bool geometry, bool weights, bool both, class Lanes>
    void pull_block(const TableBlock<T>& block, const Share& owned, std::int64_t channel, Lanes valid,
                    const Memory& memory, T* sums) const {
        const std::int64_t row = structure.dim_out * arguments.channels, stride = structure.num_products * V::lanes;
        T *products = memory.products.data(), *besides = memory.besides.data();
        in_groups(owned, kEdgesOfGroup, [&](std::int64_t begin, std::int64_t end) {
            several(begin, end, [&](std::int64_t i, auto receivers) {
                constexpr int count = decltype(receivers)::value;
                const std::int64_t from = i * row + channel, to = (i - begin) * stride;
                const T* grad = both ? arguments.tangent_grad : arguments.grad;
                block.template pull<count>(grad + from, memory.grads.data(), products + to, stride, valid);
                if constexpr (both)
                    block.template pull<count>(arguments.grad + from, memory.grads.data(), besides + to, stride, valid);
            });
            if constexpr (geometry)
                for (std::int64_t i = begin; i < end; ++i)
                    for (std::int64_t n = edges.start[i]; n < edges.start[i + 1]; n += kEdgesAtOnce)
                        pull_geometry<tangent, weights>(block, n, smaller(n + kEdgesAtOnce, edges.start[i + 1]),
                                                        products + (i - begin) * stride, memory, sums);
            else
                for (int p = 0; p < structure.num_paths; ++p)
                    with_components(structure.paths[p].degree, [&](auto components) {
                        for (std::int64_t i = begin; i < end; ++i)
                            block.template pull_edges<decltype(components)::value, tangent, false, weights, both>(
                                structure.paths[p], edges.start[i], edges.start[i + 1],
                                products + (i - begin) * stride, besides + (i - begin) * stride, memory.to_h.data(),
                                memory.to_table.data(), nullptr);
                    });
        });
    }

    template <bool tangent, bool weights>
    void pull_geometry(const TableBlock<T>& block, std::int64_t begin, std::int64_t end, const T* products,
                       const Memory& memory, T* sums) const {
        const std::int64_t rows = (end - begin) * geometry_rows, whole = rows / V::lanes * V::lanes;
        memory.sums.clear(rows * V::lanes);
        for (int p = 0; p < structure.num_paths; ++p)
            with_components(structure.paths[p].degree, [&](auto components) {
                block.template pull_edges<decltype(components)::value, tangent, true, weights, false>(
                    structure.paths[p], begin, end, products, nullptr, memory.to_h.data(), memory.to_table.data(),
                    memory.sums.data());
            });
        T* totals = sums + begin * geometry_rows;
        for (std::int64_t n = 0; n < whole; n += V::lanes)
            add_sums_of_rows(memory.sums.data() + n * V::lanes, totals + n);
        for (std::int64_t n = whole; n < rows; ++n) totals[n] += V::load(memory.sums.data() + n * V::lanes).sum();
    }

    // Gradients by the geometry out of those of every share of channels, in the caller's order of edges.
    void collect(const T* parts) const {
        const int harmonics = structure.harmonics();
        const std::int64_t length = edges.count * geometry_rows;
        for (std::int64_t n = 0; n < edges.count; ++n)
            for (int row = 0; row < geometry_rows; ++row) {
                T total = 0;
                for (int share = 0; share < grid.shares; ++share)
                    total += parts[share * length + n * geometry_rows + row];
                if (row < harmonics)
                    arguments.to_y[edges.edge[n] * harmonics + row] = total;
                else
                    arguments.to_lengths[edges.edge[n]] = total;
            }
    }
};

template <class T>
void table_convolution(const ConvolutionStructure<T>& structure, const Edges& edges,
                       const TableArguments<T>& arguments, int threads) {
    TablePass<T>{structure, edges, arguments, threads}.template run<true, false, false, false, false>();
}

template <class T>
void table_convolution_backward(const ConvolutionStructure<T>& structure, const Edges& edges,
                                const TableArguments<T>& arguments, int threads) {
    const TablePass<T> pass{structure, edges, arguments, threads};
    if (arguments.to_y && arguments.to_table)
        pass.template run<false, true, false, true, true>();
    else if (arguments.to_table)
        pass.template run<false, true, false, false, true>();
    else  // without edges there is no address of to_y
        pass.template run<false, true, false, true, false>();
}

template <class T>
void table_convolution_backward2(const ConvolutionStructure<T>& structure, const Edges& edges,
                                 const TableArguments<T>& arguments, int threads) {
    const TablePass<T> pass{structure, edges, arguments, threads};
    if (arguments.to_y)
        pass.template run<true, true, true, true, true>();
    else
        pass.template run<true, true, true, false, true>();
}

// The tangent of the forward along those of h, y, distances and table.
template <class T>
void table_convolution_tangent(const ConvolutionStructure<T>& structure, const Edges& edges,
                               const TableArguments<T>& arguments, int threads) {
    TablePass<T>{structure, edges, arguments, threads}.template run<true, false, true, false, false>();
}

// Gradients by h and the table of ⟨grad, A⟩ + ⟨tangent_grad, A'⟩ in one sweep.
template <class T>
void table_convolution_weights(const ConvolutionStructure<T>& structure, const Edges& edges,
                               const TableArguments<T>& arguments, int threads) {
    TablePass<T>{structure, edges, arguments, threads}.template run<false, true, true, false, true, true>();
}

}  // namespace
}  // namespace macekit
