// The edge convolution with a table of radial functions for all receivers: who does what, and where partial sums go.
//
// A worker owns blocks of channels of a range of receivers. Blocks are the outermost loop: of the table, the features
// and their gradients only one block is in the caches at a time, packed, and what is scattered to senders and to knots
// meets no other worker. Where there are more threads than blocks, ranges of receivers have their own sums.
#pragma once

#include "convolution_passes.h"
#include "table_coupling.h"
#include "table_edges.h"
#include "table_packing.h"
#include "workspace.h"

namespace macekit {
namespace {

constexpr int kReceiversAtOnce = 4;  // which share the coefficients of the coupling

// What a pass makes.
struct TableMakes {
    bool out;       // the output, or its tangent
    bool to_h;      // gradients by the features
    bool tangent;   // along tangents of the features, harmonics and distances
    bool geometry;  // gradients by harmonics and distances
    bool weights;   // gradients by the table
    bool both;      // gradients of a function of the output and of its tangent
};

// Everything that one pass has in common.
template <class T>
struct TablePass {
    using V = Register<T>;
    using SweepsOf = TableSweeps<T> (*)(int max_ell, int l_in);
    const ConvolutionStructure<T>& structure;
    const Edges& edges;
    const TableArguments<T>& arguments;
    int threads;
    SweepsOf sweeps_of;
    TableMakes makes;
    std::int64_t blocks = (arguments.channels + V::lanes - 1) / V::lanes;
    Grid grid = Grid(blocks, edges.atoms, threads);
    std::int64_t h_length = edges.atoms * structure.dim_in * arguments.channels;
    std::int64_t table_length = arguments.rows * structure.num_paths * arguments.channels;
    int geometry_rows = structure.harmonics() + 1;

    void run() const {
        const OpenedEdges<T>& opened = *arguments.opened;
        const std::int64_t copies = makes.to_h ? grid.ranges - 1 : 0;
        const Workspace<T> h_copies(copies * h_length), table_copies(makes.weights ? copies * table_length : 0);
        const std::int64_t geometry_length = edges.count * geometry_rows;
        const Workspace<T> to_geometry(makes.geometry ? grid.shares * geometry_length : 0);
        run_workers(grid.workers(), [&](int worker) {
            const int share = worker % grid.shares, range = worker / grid.shares;
            const Share owned(grid, worker, blocks, edges);
            T* to_h = range == 0 ? arguments.to_h : h_copies.data() + (range - 1) * h_length;
            T* to_table = range == 0 ? arguments.to_table : table_copies.data() + (range - 1) * table_length;
            T* sums = to_geometry.data() + share * geometry_length;
            if (makes.geometry)
                for (std::int64_t n = edges.start[owned.first_atom]; n < edges.start[owned.end_atom]; ++n)
                    for (int row = 0; row < geometry_rows; ++row) sums[n * geometry_rows + row] = 0;
            const Memory memory(*this);
            const TableEdges<T> given = {opened.edges,
                                         opened.splines,
                                         opened.y,
                                         opened.dy,
                                         memory.table.data(),
                                         arguments.rows,
                                         memory.h.data(),
                                         memory.dh.data(),
                                         structure.dim_in * V::lanes,
                                         arguments.tangent_h ? structure.dim_in * V::lanes : 0};
            for (std::int64_t b = owned.first_block; b < owned.end_block; ++b) {
                const std::int64_t channel = b * V::lanes, left = arguments.channels - channel;
                if (left >= V::lanes)
                    run_block(owned, channel, Full(), memory, given, opened.used, to_h, to_table, sums);
                else
                    run_block(owned, channel, Partial{static_cast<int>(left)}, memory, given, opened.used, to_h, to_table,
                              sums);
            }
        });
        if (!makes.to_h) return;
        add_copies(arguments.to_h, h_copies.data(), grid.ranges - 1, h_length, grid.workers());
        if (makes.weights)
            add_copies(arguments.to_table, table_copies.data(), grid.ranges - 1, table_length, grid.workers());
        if (makes.geometry && arguments.to_y) collect(to_geometry.data());
    }

    // Packed numbers of one block, of one worker, and the sweeps for every degree of the features.
    struct Memory {
        Workspace<T> table, h, dh, to_h, to_table, grads, products, besides, sums;
        TableSweeps<T> sweeps[kHighestDegree + 1];
        explicit Memory(const TablePass& pass)
            : table(pass.packed_table()),
              h(pass.packed_h()),
              dh(!pass.makes.tangent ? 0 : pass.arguments.tangent_h ? pass.packed_h() : pass.structure.dim_in * V::lanes),
              to_h(pass.makes.to_h ? pass.packed_h() : 0),
              to_table(pass.makes.weights ? pass.packed_table() : 0),
              grads(pass.makes.to_h ? kReceiversAtOnce * pass.structure.dim_out * V::lanes : 0),
              products(pass.packed_products()),
              besides(pass.makes.both ? pass.packed_products() : 0),
              sums(pass.makes.geometry ? kEdgesAtOnce * pass.geometry_rows * V::lanes : 0) {
            if (pass.makes.tangent && !pass.arguments.tangent_h) dh.clear(pass.structure.dim_in * V::lanes);
            products.clear(pass.packed_products());  // those that do not occur are never written
            for (int d = 0; d < pass.structure.num_degrees; ++d)
                sweeps[d] = pass.sweeps_of(pass.structure.max_ell, pass.structure.degrees[d].degree);
        }
    };
    std::int64_t packed_table() const { return arguments.rows * structure.num_paths * V::lanes; }
    std::int64_t packed_h() const { return edges.atoms * structure.dim_in * V::lanes; }
    std::int64_t packed_products() const { return kReceiversAtOnce * structure.num_products * V::lanes; }

    template <class Lanes>
    void run_block(const Share& owned, std::int64_t channel, Lanes valid, const Memory& memory,
                   const TableEdges<T>& given, const char* used, T* to_h, T* to_table, T* sums) const {
        const std::int64_t K = arguments.channels;
        const Rows features = {edges.atoms, structure.dim_in, structure.dim_in, nullptr, nullptr};
        tables(used, [&](const Rows& rows, std::int64_t first) {
            pack(arguments.table + channel, rows, K, memory.table.data() + first, valid);
        });
        pack(arguments.h + channel, features, K, memory.h.data(), valid);
        if (makes.tangent && arguments.tangent_h)
            pack(arguments.tangent_h + channel, features, K, memory.dh.data(), valid);
        if (makes.out) several(owned, [&](std::int64_t i, auto receivers) {
            send<decltype(receivers)::value>(given, i, channel, valid, memory);
        });
        if (!makes.to_h) return;
        clear(features, memory.to_h.data());
        if (makes.weights)
            tables(used, [&](const Rows& rows, std::int64_t first) { clear(rows, memory.to_table.data() + first); });
        several(owned, [&](std::int64_t i, auto receivers) {
            take<decltype(receivers)::value>(given, i, channel, valid, memory, sums);
        });
        unpack(memory.to_h.data(), features, K, to_h + channel, valid);
        if (makes.weights)
            tables(used, [&](const Rows& rows, std::int64_t first) {
                unpack(memory.to_table.data() + first, rows, K, to_table + channel, valid);
            });
    }

    // Calls function(rows, first number) for the paths of every degree, whose tables are packed one after another.
    template <class Function>
    void tables(const char* used, const Function& function) const {
        for (int d = 0; d < structure.num_degrees; ++d) {
            const int first = structure.degrees[d].first_path;
            const int end = d + 1 < structure.num_degrees ? structure.degrees[d + 1].first_path : structure.num_paths;
            const Rows rows = {arguments.rows, structure.num_paths, end - first, structure.path_order + first, used};
            function(rows, arguments.rows * first * V::lanes);
        }
    }

    // Calls function(i, Number<n>) for all receivers i ... i + n - 1.
    template <class Function>
    static MACEKIT_INLINE void several(const Share& owned, const Function& function) {
        std::int64_t i = owned.first_atom;
        for (; i + kReceiversAtOnce <= owned.end_atom; i += kReceiversAtOnce) function(i, Number<kReceiversAtOnce>());
        for (; i < owned.end_atom; ++i) function(i, Number<1>());
    }

    // Has rows brought to the caches while something else is computed: they are too far apart for the processor to guess.
    template <int is_written>
    void fetch(const T* first, int rows) const {
        for (int n = 0; n < rows; ++n) __builtin_prefetch(first + n * arguments.channels, is_written, is_written ? 3 : 2);
    }

    // Messages to some receivers.
    template <int receivers, class Lanes>
    void send(const TableEdges<T>& given, std::int64_t first, std::int64_t channel, Lanes valid,
              const Memory& memory) const {
        const std::int64_t row = structure.dim_out * arguments.channels, stride = structure.num_products * V::lanes;
        T* const out = arguments.out + first * row + channel;
        fetch<1>(out, receivers * structure.dim_out);
        for (int d = 0; d < structure.num_degrees; ++d) {
            const auto sum = makes.tangent ? memory.sweeps[d].tangents : memory.sweeps[d].values;
            for (int i = 0; i < receivers; ++i)
                sum(given, edges.start[first + i], edges.start[first + i + 1], structure.degrees[d],
                    memory.products.data() + i * stride);
        }
        couple<receivers>(structure, memory.products.data(), stride, out, arguments.channels, valid);
    }

    // Gradients of the edges of some receivers.
    template <int receivers, class Lanes>
    void take(const TableEdges<T>& given, std::int64_t first, std::int64_t channel, Lanes valid, const Memory& memory,
              T* sums) const {
        const std::int64_t from = first * structure.dim_out * arguments.channels + channel;
        const std::int64_t stride = structure.num_products * V::lanes;
        const T* grad = makes.both ? arguments.tangent_grad : arguments.grad;
        pull<receivers>(structure, grad + from, arguments.channels, memory.grads.data(), memory.products.data(), stride,
                        valid);
        if (makes.both)
            pull<receivers>(structure, arguments.grad + from, arguments.channels, memory.grads.data(),
                            memory.besides.data(), stride, valid);
        const std::int64_t row = structure.dim_out * arguments.channels, next = from + receivers * row;
        for (int i = 0; i < receivers; ++i) {
            if (first + receivers + i < edges.atoms) {
                fetch<0>(grad + next + i * row, structure.dim_out);
                if (makes.both) fetch<0>(arguments.grad + next + i * row, structure.dim_out);
            }
            const TableGradients<T> to = {memory.products.data() + i * stride, memory.besides.data() + i * stride,
                                          memory.to_h.data(), memory.to_table.data(), memory.sums.data()};
            const std::int64_t begin = edges.start[first + i], end = edges.start[first + i + 1];
            if (makes.geometry)
                for (std::int64_t n = begin; n < end; n += kEdgesAtOnce)
                    take_geometry(given, n, smaller(n + kEdgesAtOnce, end), to, memory, sums + n * geometry_rows);
            else
                for (int d = 0; d < structure.num_degrees; ++d)
                    memory.sweeps[d].both_by_weights(given, begin, end, structure.degrees[d], to);
        }
    }

    // The same for few edges of a receiver, with those by the geometry: their sums over lanes take memory.
    void take_geometry(const TableEdges<T>& given, std::int64_t begin, std::int64_t end, const TableGradients<T>& to,
                       const Memory& memory, T* totals) const {
        const std::int64_t rows = (end - begin) * geometry_rows, whole = rows / V::lanes * V::lanes;
        memory.sums.clear(rows * V::lanes);
        for (int d = 0; d < structure.num_degrees; ++d) {
            const TableSweeps<T>& sweeps = memory.sweeps[d];
            const auto sweep = makes.tangent   ? sweeps.tangents_by_all
                               : makes.weights ? sweeps.by_all
                                               : sweeps.by_geometry;
            sweep(given, begin, end, structure.degrees[d], to);
        }
        for (std::int64_t n = 0; n < whole; n += V::lanes)
            add_sums_of_rows(memory.sums.data() + n * V::lanes, totals + n);
        for (std::int64_t n = whole; n < rows; ++n) totals[n] += V::load(memory.sums.data() + n * V::lanes).sum();
    }

    // Gradients by the geometry out of those of every share of channels, in the caller's order of edges.
    void collect(const T* parts) const {
        const int harmonics = structure.harmonics();
        const std::int64_t length = edges.count * geometry_rows;
        run_workers(grid.workers(), [&](int worker) {
            const std::int64_t end = part(edges.count, grid.workers(), worker + 1);
            for (std::int64_t n = part(edges.count, grid.workers(), worker); n < end; ++n) {
                T* const to_y = arguments.to_y + edges.edge[n] * harmonics;
                const T* const sums = parts + n * geometry_rows;
                for (int row = 0; row < geometry_rows; ++row) {
                    T total = sums[row];
                    for (int share = 1; share < grid.shares; ++share) total += sums[share * length + row];
                    if (row < harmonics)
                        to_y[row] = total;
                    else
                        arguments.to_lengths[edges.edge[n]] = total;
                }
            }
        });
    }
};

}  // namespace
}  // namespace macekit
