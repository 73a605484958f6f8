// The arrays of one evaluation, all in one piece of memory that is kept for the next.
#pragma once

#include <cstdlib>
#include <new>

#include "engine.h"
#include "engine_contraction.h"
#include "engine_geometry.h"
#include "engine_linear.h"
#include "workspace.h"

namespace macekit {
namespace {

constexpr std::int64_t kAtomsAtOnce = 512;

// Hands out parts of a piece of memory; without memory it counts what is needed.
class Arena {
   public:
    explicit Arena(char* data) : data_(data), used_(0) {}
    template <class T>
    T* take(std::int64_t count) {
        char* part = data_ == nullptr ? nullptr : data_ + used_;
        used_ += (static_cast<std::size_t>(count > 0 ? count : 1) * sizeof(T) + 63) / 64 * 64;
        return reinterpret_cast<T*>(part);
    }
    std::size_t used() const { return used_; }

   private:
    char* data_;
    std::size_t used_;
};

// Arrays of one layer: [block][atom][component][lane].
template <class T>
struct LayerArrays {
    T *x, *basis, *to_basis;      // atomic basis (then its gradient), polynomials and their gradient
    T *h, *to_h;                  // what is sent; the first layer's has a row for each element
    T *h_copies;                  // gradients of further ranges of receivers
    double *density, *to_density;
    std::int64_t senders;         // rows of h
    const int* sender;
    std::int64_t *chunks_x, *chunks_basis, *chunks_h;
    std::int64_t* chunks_a;       // [mixing][path · block]
};

template <class T>
struct EngineArrays {
    static constexpr std::int64_t lanes = Register<T>::lanes;
    LayerArrays<T>* layers;
    EdgeGeometry<T> geometry;
    T* gradient;          // [share][edge of the chunk][width]
    T* a;                 // messages of the chunk
    T* moments;
    std::int64_t *chunks_moments, *chunks_readout;
    T *readout, *to_readout;
    double *energies, *forces, *virials;  // of sorted atoms; forces and virials by worker
    T* panels;            // by worker
    T* products;          // by worker
    T* tiles;             // by worker
    std::int64_t panel_size, products_size, tile_size;
    std::int64_t atoms_at_once, edges_at_once, num_chunks;
    Grid grid;
    int components;

    EngineArrays(const EngineModel<T>& model, const EngineSystem& system, bool by_moments, int threads, Arena arena)
        : grid(largest_blocks(model), system.atoms, threads) {
        const std::int64_t N = system.atoms;
        components = (model.max_ell + 1) * (model.max_ell + 1);
        atoms_at_once = N <= kAtomsAtOnce * 3 / 2 ? N : kAtomsAtOnce;
        num_chunks = N == 0 ? 0 : (N + atoms_at_once - 1) / atoms_at_once;
        edges_at_once = 0;
        for (std::int64_t c = 0; c < num_chunks; ++c) {
            const std::int64_t edges = system.start[smaller(N, (c + 1) * atoms_at_once)] - system.start[c * atoms_at_once];
            if (edges > edges_at_once) edges_at_once = edges;
        }
        layers = arena.template take<LayerArrays<T>>(model.num_layers);
        std::int64_t messages = 1;
        products_size = tile_size = 1;
        for (int t = 0; t < model.num_layers; ++t) {
            const EngineLayer<T>& layer = model.layers[t];
            LayerArrays<T> arrays = {};
            take_layer(model, system, layer, t, arena, arrays);
            if (layers != nullptr) layers[t] = arrays;
            messages = larger(messages, layer.blocks * layer.dim_out);
            products_size = larger(products_size, layer.num_products);
            tile_size = larger(tile_size, kTile * (components + layer.dim_basis) * lanes);
        }
        const std::int64_t hidden = by_moments ? model.num_elements * model.moments.blocks : 0;
        panel_size = kPanels * kRowsAtOnce * kDepth * lanes;
        products_size *= lanes;
        const int workers = grid.workers();
        panels = arena.template take<T>(workers * panel_size);
        products = arena.template take<T>(workers * products_size);
        tiles = arena.template take<T>(workers * tile_size);
        geometry.width = (components + lanes - 1) / lanes * lanes;
        geometry.unit = arena.template take<double>(4 * edges_at_once);
        geometry.row = arena.template take<int>(edges_at_once);
        geometry.fraction = arena.template take<T>(edges_at_once);
        geometry.y = arena.template take<T>(edges_at_once * geometry.width);
        gradient = arena.template take<T>(grid.shares * edges_at_once * geometry.width);
        a = arena.template take<T>(messages * atoms_at_once * lanes);
        moments = arena.template take<T>(atoms_at_once * components * hidden * lanes);
        chunks_moments = arena.template take<std::int64_t>(hidden);
        chunks_readout = arena.template take<std::int64_t>(model.readout.blocks);
        readout = arena.template take<T>(N * model.readout.blocks * lanes);
        to_readout = arena.template take<T>(N * model.readout.blocks * lanes);
        energies = arena.template take<double>(N * model.readout.outputs);
        forces = arena.template take<double>(workers * N * 3);
        virials = arena.template take<double>(workers * system.graphs * 9);
        for (std::int64_t n = 0; chunks_moments != nullptr && n < hidden; ++n) chunks_moments[n] = n * lanes;
        for (std::int64_t n = 0; chunks_readout != nullptr && n < model.readout.blocks; ++n)
            chunks_readout[n] = n * N * lanes;
        bytes = arena.used();
    }
    std::size_t bytes;

   private:
    static std::int64_t larger(std::int64_t x, std::int64_t y) { return x > y ? x : y; }
    static std::int64_t largest_blocks(const EngineModel<T>& model) {
        std::int64_t blocks = 1;
        for (int t = 0; t < model.num_layers; ++t) blocks = larger(blocks, model.layers[t].blocks);
        return blocks;
    }

    void take_layer(const EngineModel<T>& model, const EngineSystem& system, const EngineLayer<T>& layer, int t,
                    Arena& arena, LayerArrays<T>& out) {
        const std::int64_t N = system.atoms;
        out.x = arena.take<T>(model.blocks * N * components * lanes);
        out.basis = arena.take<T>(model.blocks * N * layer.dim_basis * lanes);
        out.to_basis = arena.take<T>(model.blocks * N * layer.dim_basis * lanes);
        out.senders = t == 0 ? model.num_elements : N;
        out.sender = t == 0 ? system.sender_element : system.sender;
        const std::int64_t size = layer.blocks * out.senders * layer.dim_in * lanes;
        out.h = t == 0 ? const_cast<T*>(layer.constant) : arena.take<T>(size);
        out.to_h = arena.take<T>(size);
        out.h_copies = arena.take<T>((grid.ranges - 1) * size);
        out.density = arena.take<double>(layer.density ? N : 0);
        out.to_density = arena.take<double>(layer.density ? N : 0);
        out.chunks_x = strided(arena, model.blocks, N * components * lanes);
        out.chunks_basis = strided(arena, model.blocks, N * layer.dim_basis * lanes);
        out.chunks_h = strided(arena, layer.blocks, out.senders * layer.dim_in * lanes);
        out.chunks_a = arena.take<std::int64_t>(layer.num_paths * layer.blocks);
        std::int64_t* next = out.chunks_a;
        for (int m = 0; next != nullptr && m < layer.num_mixings; ++m)
            for (int path = 0; path < layer.mixings[m].paths; ++path)
                for (int block = 0; block < layer.blocks; ++block)
                    *next++ = (block * atoms_at_once * layer.dim_out + path) * lanes;
    }

    static std::int64_t* strided(Arena& arena, int count, std::int64_t stride) {
        std::int64_t* chunks = arena.take<std::int64_t>(count);
        for (int n = 0; chunks != nullptr && n < count; ++n) chunks[n] = n * stride;
        return chunks;
    }
};

}  // namespace
}  // namespace macekit
