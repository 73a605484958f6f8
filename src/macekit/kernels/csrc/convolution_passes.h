// The edge convolution and its backward passes for all receivers: who does what, and where partial sums go.
#pragma once

#include "convolution.h"
#include "workspace.h"

namespace macekit {
namespace {

constexpr std::int64_t kEdgesAtOnce = 16;  // whose gradients by the harmonics are summed over blocks of channels

// First receiver of each range, so that ranges have about as many edges.
inline std::int64_t range_begin(const Edges& edges, int ranges, int index) {
    if (index >= ranges) return edges.atoms;
    const std::int64_t target = part(edges.count, ranges, index);
    std::int64_t low = 0, high = edges.atoms;
    while (low < high) {
        const std::int64_t middle = (low + high) / 2;
        if (edges.start[middle] < target)
            low = middle + 1;
        else
            high = middle;
    }
    return index == 0 ? 0 : low;
}

// What one worker owns.
struct Share {
    std::int64_t first_block, end_block, first_atom, end_atom;
    Share(const Grid& grid, int worker, std::int64_t blocks, const Edges& edges) {
        const int share = worker % grid.shares, range = worker / grid.shares;
        first_block = part(blocks, grid.shares, share);
        end_block = part(blocks, grid.shares, share + 1);
        first_atom = range_begin(edges, grid.ranges, range);
        end_atom = range_begin(edges, grid.ranges, range + 1);
    }
};

// Calls function(block) with the block of channels of a number, full or the remainder.
template <class T, class Function>
MACEKIT_INLINE void with_block(const ConvolutionStructure<T>& structure, const Edges& edges,
                               const ConvolutionArguments<T>& arguments, std::int64_t tangent_h_stride,
                               std::int64_t tangent_radial_stride, std::int64_t number, const Function& function) {
    const std::int64_t channel = number * Register<T>::lanes, left = arguments.channels - channel;
    if (left >= Register<T>::lanes)
        function(ConvolutionBlock<T, Full>{structure, edges, arguments, tangent_h_stride, tangent_radial_stride,
                                           channel, Full()});
    else
        function(ConvolutionBlock<T, Partial>{structure, edges, arguments, tangent_h_stride, tangent_radial_stride,
                                              channel, Partial{static_cast<int>(left)}});
}

template <class T>
std::int64_t num_blocks(const ConvolutionArguments<T>& arguments) {
    return (arguments.channels + Register<T>::lanes - 1) / Register<T>::lanes;
}

template <class T>
void convolution(const ConvolutionStructure<T>& structure, const Edges& edges, const ConvolutionArguments<T>& arguments,
                 int threads) {
    const std::int64_t blocks = num_blocks(arguments), row = structure.dim_out * arguments.channels;
    const Grid grid(blocks, edges.atoms, threads);
    run_workers(grid.workers(), [&](int worker) {
        const Share share(grid, worker, blocks, edges);
        const Workspace<T> products(structure.num_products * Register<T>::lanes);
        for (std::int64_t i = share.first_atom; i < share.end_atom; ++i)
            for (std::int64_t b = share.first_block; b < share.end_block; ++b)
                with_block(structure, edges, arguments, 0, 0, b, [&](const auto& block) {
                    block.template sum_edges<false, false>(edges.start[i], edges.start[i + 1], products.data());
                    block.couple(products.data(), arguments.out + i * row);
                });
    });
}

// One worker's part of a backward pass.
template <class T, bool tangent, bool y_moves>
void backward_share(const ConvolutionStructure<T>& structure, const Edges& edges,
                    const ConvolutionArguments<T>& arguments, const Share& share, T* to_h, T* to_y) {
    using V = Register<T>;
    const std::int64_t row = structure.dim_out * arguments.channels, components = structure.harmonics();
    const std::int64_t dh_stride = arguments.tangent_h ? structure.dim_in * arguments.channels : 0;
    const std::int64_t dr_stride = arguments.tangent_radial ? structure.num_paths * arguments.channels : 0;
    const Workspace<T> products(structure.num_products * V::lanes), y_sums(kEdgesAtOnce * components * V::lanes);
    const Workspace<T> zeros(tangent ? (structure.dim_in + structure.num_paths) * arguments.channels : 0);
    ConvolutionArguments<T> given = arguments;
    if (tangent) {
        zeros.clear((structure.dim_in + structure.num_paths) * arguments.channels);
        if (given.tangent_h == nullptr) given.tangent_h = zeros.data();
        if (given.tangent_radial == nullptr) given.tangent_radial = zeros.data();
    }
    for (std::int64_t i = share.first_atom; i < share.end_atom; ++i) {
        if (tangent)
            for (std::int64_t b = share.first_block; b < share.end_block; ++b)
                with_block(structure, edges, given, dh_stride, dr_stride, b, [&](const auto& block) {
                    block.template sum_edges<tangent, y_moves>(edges.start[i], edges.start[i + 1], products.data());
                    block.couple(products.data(), given.out + i * row);
                });
        for (std::int64_t begin = edges.start[i]; begin < edges.start[i + 1]; begin += kEdgesAtOnce) {
            const std::int64_t end = smaller(begin + kEdgesAtOnce, edges.start[i + 1]);
            y_sums.clear((end - begin) * components * V::lanes);
            for (std::int64_t b = share.first_block; b < share.end_block; ++b)
                with_block(structure, edges, given, dh_stride, dr_stride, b, [&](const auto& block) {
                    block.pull(given.grad + i * row, products.data());
                    block.template pull_edges<tangent, y_moves>(begin, end, products.data(), to_h, y_sums.data());
                });
            for (std::int64_t n = begin; n < end; ++n)
                for (std::int64_t c = 0; c < components; ++c)
                    to_y[edges.edge[n] * components + c] =
                        V::load(y_sums.data() + ((n - begin) * components + c) * V::lanes).sum();
        }
    }
}

// Adds `copies` arrays to the first, in order.
template <class T>
void add_copies(T* total, const T* copies, int count, std::int64_t length, int threads) {
    run_workers(threads, [&](int worker) {
        for (int copy = 0; copy < count; ++copy)
            for (std::int64_t n = part(length, threads, worker); n < part(length, threads, worker + 1); ++n)
                total[n] += copies[copy * length + n];
    });
}

// Shares of channels have their own gradients by the harmonics, ranges of receivers their own by the senders' features.
template <class T, bool tangent, bool y_moves>
void backward(const ConvolutionStructure<T>& structure, const Edges& edges, const ConvolutionArguments<T>& arguments,
              int threads) {
    const std::int64_t blocks = num_blocks(arguments);
    const Grid grid(blocks, edges.atoms, threads);
    const std::int64_t h_length = edges.atoms * structure.dim_in * arguments.channels;
    const std::int64_t y_length = edges.count * structure.harmonics();
    const Workspace<T> h_copies((grid.ranges - 1) * h_length), y_copies((grid.shares - 1) * y_length);
    run_workers(grid.workers(), [&](int worker) {
        const int share = worker % grid.shares, range = worker / grid.shares;
        T* to_h = range == 0 ? arguments.to_h : h_copies.data() + (range - 1) * h_length;
        T* to_y = share == 0 ? arguments.to_y : y_copies.data() + (share - 1) * y_length;
        if (range > 0) {  // every share clears its own channels
            const std::int64_t K = arguments.channels, first = part(blocks, grid.shares, share) * Register<T>::lanes;
            const std::int64_t end = smaller(part(blocks, grid.shares, share + 1) * Register<T>::lanes, K);
            for (std::int64_t row = 0; row < edges.atoms * structure.dim_in; ++row)
                for (std::int64_t k = first; k < end; ++k) to_h[row * K + k] = 0;
        }
        backward_share<T, tangent, y_moves>(structure, edges, arguments, Share(grid, worker, blocks, edges), to_h,
                                            to_y);
    });
    add_copies(arguments.to_h, h_copies.data(), grid.ranges - 1, h_length, grid.workers());
    add_copies(arguments.to_y, y_copies.data(), grid.shares - 1, y_length, grid.workers());
}

template <class T>
void convolution_backward(const ConvolutionStructure<T>& structure, const Edges& edges,
                          const ConvolutionArguments<T>& arguments, int threads) {
    backward<T, false, false>(structure, edges, arguments, threads);
}

template <class T>
void convolution_backward2(const ConvolutionStructure<T>& structure, const Edges& edges,
                           const ConvolutionArguments<T>& arguments, int threads) {
    if (arguments.tangent_y)
        backward<T, true, true>(structure, edges, arguments, threads);
    else
        backward<T, true, false>(structure, edges, arguments, threads);
}

}  // namespace
}  // namespace macekit
