// One evaluation: energies, forces and virials of a batch, by all threads together.
//
// Forward through the layers, then backward. Atoms are taken in chunks, so that nothing per edge outlives one. Within a
// chunk every worker has its own atoms, except in the convolutions, where it has its own channels.
#pragma once

#include <ctime>

#include "engine_contraction.h"
#include "engine_geometry.h"
#include "engine_linear.h"
#include "engine_readout.h"
#include "engine_work.h"

namespace macekit {
namespace {

enum Stage {
    kGeometry, kMoments, kConvolution, kMixing, kContraction, kSending, kReading,
    kUnsending, kUncontraction, kUnmixing, kUnconvolution, kUnmoments, kForces, kGathering
};

template <class T>
class Worker {
    using V = Register<T>;
    static constexpr std::int64_t W = V::lanes;

   public:
    Worker(const EngineModel<T>& model, const EngineSystem& system, const EngineResults& results,
           const EngineArrays<T>& arrays, EnginePassesOf<T> passes, bool by_moments, int worker)
        : model_(model), system_(system), results_(results), work_(arrays), passes_(passes), by_moments_(by_moments),
          worker_(worker), workers_(arrays.grid.workers()), share_(worker % arrays.grid.shares),
          range_(worker / arrays.grid.shares), panel_(arrays.panels + worker * arrays.panel_size),
          products_(arrays.products + worker * arrays.products_size), tile_(arrays.tiles + worker * arrays.tile_size),
          forces_(arrays.forces + worker * system.atoms * 3), virials_(arrays.virials + worker * system.graphs * 9) {}

    void run() {
        tick_ = now();
        clear(forces_, system_.atoms * 3);
        clear(virials_, system_.graphs * 9);
        for (int t = 0; t < model_.num_layers; ++t) {
            for (std::int64_t c = 0; c < work_.num_chunks; ++c) forward(t, c);
            barrier();
        }
        read_out(part(system_.atoms, workers_, worker_), part(system_.atoms, workers_, worker_ + 1));
        barrier();
        stage(kReading);
        for (int t = model_.num_layers - 1; t >= 0; --t) {
            clear_sent(t);
            barrier();
            for (std::int64_t c = 0; c < work_.num_chunks; ++c) backward(t, c);
            add_copies_of_sent(t);
        }
        barrier();
        gather();
        stage(kGathering);
    }

   private:
    // ---- chunks
    void open_chunk(std::int64_t c) {
        first_ = c * work_.atoms_at_once;
        end_ = smaller(system_.atoms, first_ + work_.atoms_at_once);
        first_edge_ = system_.start[first_];
        begin_ = first_ + part(end_ - first_, workers_, worker_);
        stop_ = first_ + part(end_ - first_, workers_, worker_ + 1);
    }
    bool is_one_chunk() const { return work_.num_chunks == 1; }

    void measure() {
        measure_edges(model_, system_, begin_, system_.start[begin_], system_.start[stop_], first_edge_,
                      work_.geometry);
        stage(kGeometry);
    }

    // ---- forward
    void forward(int t, std::int64_t c) {
        open_chunk(c);
        const bool by_moments = by_moments_ && t == 0;
        if (t == 0 || !is_one_chunk()) {
            if (c > 0 || t > 0) barrier();  // the last chunk's edges are still read
            measure();
            barrier();
        }
        if (by_moments) {
            moments_forward();
            stage(kMoments);
            mix_moments(false);
        } else {
            convolve(t);
            barrier();
            stage(kConvolution);
            mix(t, false);
        }
        if (model_.layers[t].density != nullptr) divide_by_density(t);
        stage(kMixing);
        contract(t);
        stage(kContraction);
        if (t + 1 < model_.num_layers) send(t + 1);
        stage(kSending);
    }

    EdgeBlock<T> edges_of(const EngineLayer<T>& layer, const LayerArrays<T>& arrays, std::int64_t block) const {
        EdgeBlock<T> b;
        const std::int64_t rows = num_rows();
        b.sender = arrays.sender + first_edge_;
        b.row = work_.geometry.row;
        b.fraction = work_.geometry.fraction;
        b.y = work_.geometry.y;
        b.width = work_.geometry.width;
        b.gradient = work_.gradient + share_ * work_.edges_at_once * b.width;
        b.row_stride = layer.num_paths * (kPieceDegree<T> + 1) * W;
        b.table_block = rows * b.row_stride;
        b.table = layer.table + block * b.table_block;
        b.h_stride = layer.dim_in * W;
        b.h = arrays.h + block * arrays.senders * b.h_stride;
        b.to_h = (range_ == 0 ? arrays.to_h : arrays.h_copies + (range_ - 1) * sent_size(layer, arrays)) +
                 block * arrays.senders * b.h_stride;
        b.products = products_;
        return b;
    }
    std::int64_t num_rows() const { return static_cast<std::int64_t>(model_.num_pairs) * (model_.knots + 1); }
    std::int64_t sent_size(const EngineLayer<T>& layer, const LayerArrays<T>& arrays) const {
        return layer.blocks * arrays.senders * layer.dim_in * W;
    }
    // Channels and receivers of this worker in convolutions.
    std::int64_t first_block(const EngineLayer<T>& layer, int next) const {
        return part(layer.blocks, work_.grid.shares, share_ + next);
    }
    std::int64_t receiver(int next) const { return first_ + part(end_ - first_, work_.grid.ranges, range_ + next); }

    void convolve(int t) {
        const EngineLayer<T>& layer = model_.layers[t];
        typename EnginePasses<T>::Sum sums[kHighestInput + 1];
        const EnginePasses<T> passes = passes_(layer.max_ell);
        for (int d = 0; d < layer.num_degrees; ++d) sums[d] = passes.sum(layer.degrees[d]);
        for (std::int64_t block = first_block(layer, 0); block < first_block(layer, 1); ++block) {
            const EdgeBlock<T> b = edges_of(layer, work_.layers[t], block);
            T* a = work_.a + block * work_.atoms_at_once * layer.dim_out * W;
            for (std::int64_t i = receiver(0); i < receiver(1); ++i) {
                const std::int64_t begin = system_.start[i] - first_edge_, end = system_.start[i + 1] - first_edge_;
                for (int d = 0; d < layer.num_degrees; ++d) {
                    const int l = layer.degrees[d];
                    sums[d](b, begin, end, layer.starts.path[l], layer.starts.row[l],
                            products_ + layer.starts.product[l] * W);
                }
                apply(layer.couple, products_, a + (i - first_) * layer.dim_out * W);
            }
        }
    }

    static MACEKIT_INLINE void apply(const EngineSparse<T>& matrix, const T* in, T* out) {
        for (int r = 0; r < matrix.rows; ++r) {
            V sum = V::zero();
            for (int n = matrix.start[r]; n < matrix.start[r + 1]; ++n)
                sum = fma(V::all(matrix.value[n]), V::load(in + matrix.column[n] * W), sum);
            sum.store(out + r * W);
        }
    }

    // The atomic basis of this worker's atoms out of messages, or back.
    void mix(int t, bool back) {
        const EngineLayer<T>& layer = model_.layers[t];
        const LayerArrays<T>& arrays = work_.layers[t];
        const std::int64_t* chunks = arrays.chunks_a;
        for (int m = 0; m < layer.num_mixings; ++m) {
            const EngineMixing<T>& mixing = layer.mixings[m];
            const int l = mixing.degree;
            // atoms of the messages are counted from the chunk's first
            T* a = work_.a + (mixing.first_row - first_ * layer.dim_out) * W;
            T* x = arrays.x + l * l * W;
            const FeatureRows<T> messages = {a, layer.dim_out * W, mixing.paths * W, chunks};
            const FeatureRows<T> basis = {x, work_.components * W, W, arrays.chunks_x};
            linear(mixing.map, back, begin_, stop_, 2 * l + 1, back ? basis : messages, back ? messages : basis, false);
            chunks += mixing.paths * layer.blocks;
        }
    }

    void linear(const EngineLinear<T>& map, bool back, std::int64_t begin, std::int64_t end, int components,
                const FeatureRows<T>& in, const FeatureRows<T>& out, bool adds) {
        const FeatureRows<const T> source = {in.data, in.atom, in.component, in.chunk};
        multiply_by_element(map, back, system_, model_.num_elements, begin, end, components, source, out, adds, panel_);
    }

    void divide_by_density(int t) {
        const LayerArrays<T>& arrays = work_.layers[t];
        const double scale = model_.knots / model_.cutoff;
        for (std::int64_t i = begin_; i < stop_; ++i) {
            double sum = 1.0, slope;
            for (std::int64_t e = system_.start[i] - first_edge_; e < system_.start[i + 1] - first_edge_; ++e)
                sum += piece_at<T>(model_.layers[t].density, work_.geometry.row[e], work_.geometry.fraction[e], scale, slope);
            arrays.density[i] = sum;
            scale_basis(t, i, static_cast<T>(1.0 / sum));
        }
    }

    void scale_basis(int t, std::int64_t i, T factor) {
        for (int block = 0; block < model_.blocks; ++block) {
            T* x = work_.layers[t].x + (block * system_.atoms + i) * work_.components * W;
            for (int k = 0; k < components_of(t); ++k) (V::load(x + k * W) * V::all(factor)).store(x + k * W);
        }
    }

    int components_of(int t) const { return (model_.layers[t].max_ell + 1) * (model_.layers[t].max_ell + 1); }

    // Atoms of this worker by element: whole tiles of atoms, then what remains with several blocks at once.
    template <class Body>
    void for_tiles(const Body& body) {
        for (int z = 0; z < model_.num_elements; ++z) {
            std::int64_t i = system_.element_start[z] > begin_ ? system_.element_start[z] : begin_;
            const std::int64_t end = smaller(system_.element_start[z + 1], stop_);
            if (i >= end) continue;
            const std::int64_t whole = i + (end - i) / kTile * kTile;
            for (int block = 0; block < model_.blocks; ++block)
                for (std::int64_t first = i; first < whole; first += kTile) body(Number<kTile>(), Number<1>(), z, block, first);
            i = whole;
            if constexpr (kTile > 4) i = for_blocks<4>(z, i, end, body);
            i = for_blocks<2>(z, i, end, body);
            for_blocks<1>(z, i, end, body);
        }
    }
    template <int atoms, class Body>
    std::int64_t for_blocks(int z, std::int64_t i, std::int64_t end, const Body& body) {
        for (; i + atoms <= end; i += atoms) {
            int block = 0;
            for (; block + kTile / atoms <= model_.blocks; block += kTile / atoms)
                body(Number<atoms>(), Number<kTile / atoms>(), z, block, i);
            for (; block < model_.blocks; ++block) body(Number<atoms>(), Number<1>(), z, block, i);
        }
        return i;
    }

    void contract(int t) {
        const EngineLayer<T>& layer = model_.layers[t];
        const LayerArrays<T>& arrays = work_.layers[t];
        const std::int64_t size = work_.components * W, dim_basis = layer.dim_basis * W;
        for_tiles([&](auto atoms, auto blocks, int z, int block, std::int64_t i) {
            constexpr int A = decltype(atoms)::value, B = decltype(blocks)::value;
            const std::int64_t place = block * system_.atoms + i;
            gather_variables<T, A, B>(arrays.x + place * size, size, system_.atoms * size, components_of(t), tile_);
            const Tile<T> tile = {coefficients(layer, block, z), coefficient_block(layer), tile_,
                                  arrays.basis + place * dim_basis, dim_basis, system_.atoms * dim_basis};
            evaluate_polynomials<T, A, B>(layer.program, layer.dim_basis, tile);
        });
    }
    std::int64_t coefficient_block(const EngineLayer<T>& layer) const {
        return static_cast<std::int64_t>(model_.num_elements) * layer.num_terms * W;
    }
    const T* coefficients(const EngineLayer<T>& layer, int block, int z) const {
        return layer.coefficients + (static_cast<std::int64_t>(block) * model_.num_elements + z) * layer.num_terms * W;
    }

    // What layer t sends, of this worker's atoms.
    void send(int t) {
        const EngineLayer<T>& layer = model_.layers[t];
        const LayerArrays<T>& arrays = work_.layers[t];
        for (int block = 0; block < layer.blocks; ++block)
            for (std::int64_t i = begin_; i < stop_; ++i) {
                T* h = arrays.h + (block * system_.atoms + i) * layer.dim_in * W;
                V::load(layer.constant + (block * model_.num_elements + system_.element[i]) * W).store(h);
                for (int row = 1; row < layer.dim_in; ++row) V::zero().store(h + row * W);
            }
        for (int s = 0; s < layer.num_sources; ++s) {
            const EngineSource<T>& source = layer.sources[s];
            const LayerArrays<T>& from = work_.layers[source.layer];
            const FeatureRows<T> in = {from.basis + source.row_from * W, model_.layers[source.layer].dim_basis * W, W,
                                       from.chunks_basis};
            const FeatureRows<T> out = {arrays.h + source.row_to * W, layer.dim_in * W, W, arrays.chunks_h};
            linear(source.map, false, begin_, stop_, 2 * source.degree + 1, in, out, true);
        }
    }

    // ---- energies, and the gradients of all polynomials by what is read
    void read_out(std::int64_t begin, std::int64_t end) {
        const EngineReadout<T>& readout = model_.readout;
        const int columns = readout.hidden + readout.outputs;
        for (int block = 0; block < readout.blocks; ++block)
            clear(work_.readout + (block * system_.atoms + begin) * W, (end - begin) * W);
        read_sources(begin, end, false);
        double values[kMostColumns], slopes[kMostColumns];
        for (std::int64_t i = begin; i < end; ++i) {
            const double* constant = readout.constant + system_.element[i] * columns;
            for (int n = 0; n < columns; ++n)
                values[n] = constant[n] + static_cast<double>(work_.readout[(n / W * system_.atoms + i) * W + n % W]);
            perceptron(readout, values, slopes, work_.energies + i * readout.outputs,
                       readout.offset + system_.element[i] * readout.outputs);
            for (int n = 0; n < readout.blocks * W; ++n)
                work_.to_readout[(n / W * system_.atoms + i) * W + n % W] = n < columns ? static_cast<T>(slopes[n]) : T(0);
        }
        for (int t = 0; t < model_.num_layers; ++t) {
            const std::int64_t size = model_.layers[t].dim_basis * W;
            for (int block = 0; block < model_.blocks; ++block)
                clear(work_.layers[t].to_basis + (block * system_.atoms + begin) * size, (end - begin) * size);
        }
        read_sources(begin, end, true);
    }

    void read_sources(std::int64_t begin, std::int64_t end, bool back) {
        const EngineReadout<T>& readout = model_.readout;
        for (int s = 0; s < readout.num_sources; ++s) {
            const EngineSource<T>& source = readout.sources[s];
            const LayerArrays<T>& from = work_.layers[source.layer];
            const std::int64_t size = model_.layers[source.layer].dim_basis * W;
            const FeatureRows<T> basis = {back ? from.to_basis : from.basis, size, W, from.chunks_basis};
            const FeatureRows<T> read = {back ? work_.to_readout : work_.readout, W, W, work_.chunks_readout};
            linear(source.map, back, begin, end, 1, back ? read : basis, back ? basis : read, true);
        }
    }

    // ---- backward
    void clear_sent(int t) {
        const EngineLayer<T>& layer = model_.layers[t];
        const LayerArrays<T>& arrays = work_.layers[t];
        if (by_moments_ && t == 0) return;
        T* to_h = range_ == 0 ? arrays.to_h : arrays.h_copies + (range_ - 1) * sent_size(layer, arrays);
        const std::int64_t size = arrays.senders * layer.dim_in * W;
        clear(to_h + first_block(layer, 0) * size, (first_block(layer, 1) - first_block(layer, 0)) * size);
    }

    void add_copies_of_sent(int t) {
        if (t == 0 || work_.grid.ranges == 1) return;
        const EngineLayer<T>& layer = model_.layers[t];
        const LayerArrays<T>& arrays = work_.layers[t];
        const std::int64_t size = sent_size(layer, arrays);
        barrier();
        for (int copy = 0; copy + 1 < work_.grid.ranges; ++copy)
            for (std::int64_t n = part(size, workers_, worker_); n < part(size, workers_, worker_ + 1); ++n)
                arrays.to_h[n] += arrays.h_copies[copy * size + n];
    }

    void backward(int t, std::int64_t c) {
        open_chunk(c);
        const bool by_moments = by_moments_ && t == 0;
        if (!is_one_chunk()) {
            barrier();
            measure();
        }
        if (!is_one_chunk() || t == model_.num_layers - 1) clear_gradient();
        unsend(t);
        stage(kUnsending);
        uncontract(t);
        stage(kUncontraction);
        if (by_moments) {
            mix_moments(true);
            barrier();
            stage(kUnmixing);
            moments_backward();
            stage(kUnmoments);
        } else {
            mix(t, true);
            barrier();
            stage(kUnmixing);
            unconvolve(t);
            barrier();
            stage(kUnconvolution);
        }
        if (!is_one_chunk())
            push(t, t);
        else if (t == 0)
            push(0, model_.num_layers - 1);
        stage(kForces);
    }

    void clear_gradient() {
        const std::int64_t width = work_.geometry.width;
        for (int share = 0; share < work_.grid.shares; ++share)
            clear(work_.gradient + (share * work_.edges_at_once + system_.start[begin_] - first_edge_) * width,
                  (system_.start[stop_] - system_.start[begin_]) * width);
    }

    // Gradients by this layer's polynomials out of those by what later layers send.
    void unsend(int t) {
        for (int later = t + 1; later < model_.num_layers; ++later) {
            const EngineLayer<T>& layer = model_.layers[later];
            const LayerArrays<T>& arrays = work_.layers[later];
            for (int s = 0; s < layer.num_sources; ++s) {
                const EngineSource<T>& source = layer.sources[s];
                if (source.layer != t) continue;
                const LayerArrays<T>& own = work_.layers[t];
                const FeatureRows<T> sent = {arrays.to_h + source.row_to * W, layer.dim_in * W, W, arrays.chunks_h};
                const FeatureRows<T> basis = {own.to_basis + source.row_from * W, model_.layers[t].dim_basis * W, W,
                                              own.chunks_basis};
                linear(source.map, true, begin_, stop_, 2 * source.degree + 1, sent, basis, true);
            }
        }
    }

    // Replaces the atomic basis by its gradient.
    void uncontract(int t) {
        const EngineLayer<T>& layer = model_.layers[t];
        const LayerArrays<T>& arrays = work_.layers[t];
        const std::int64_t size = work_.components * W, dim_basis = layer.dim_basis * W;
        if (layer.density != nullptr)
            for (std::int64_t i = begin_; i < stop_; ++i) arrays.to_density[i] = 0.0;
        const int components = components_of(t);
        for_tiles([&](auto atoms, auto blocks, int z, int block, std::int64_t i) {
            constexpr int A = decltype(atoms)::value, B = decltype(blocks)::value;
            const std::int64_t place = block * system_.atoms + i;
            T* x = arrays.x + place * size;
            gather_variables<T, A, B>(x, size, system_.atoms * size, components, tile_);
            gather_variables<T, A, B>(arrays.to_basis + place * dim_basis, dim_basis, system_.atoms * dim_basis,
                                      layer.dim_basis, tile_ + components * A * B * W);
            const Tile<T> tile = {coefficients(layer, block, z), coefficient_block(layer), tile_, x, size, system_.atoms * size};
            evaluate_polynomials<T, A, B>(layer.gradient, components, tile);
            if (layer.density != nullptr) add_along<T, A, B>(tile, components, arrays.to_density + i);
        });
        if (layer.density != nullptr)
            for (std::int64_t i = begin_; i < stop_; ++i) {
                arrays.to_density[i] /= -arrays.density[i];
                scale_basis(t, i, static_cast<T>(1.0 / arrays.density[i]));
            }
    }

    void unconvolve(int t) {
        const EngineLayer<T>& layer = model_.layers[t];
        const EnginePasses<T> passes = passes_(layer.max_ell);
        int masks[kHighestInput + 1], count = 0;
        for (int d = 0; d < layer.num_degrees; ++d) {
            const int l = layer.degrees[d];
            if (l == 1 && count > 0 && masks[count - 1] == 1)
                masks[count - 1] = 3;
            else
                masks[count++] = 1 << l;
        }
        for (std::int64_t block = first_block(layer, 0); block < first_block(layer, 1); ++block) {
            const EdgeBlock<T> b = edges_of(layer, work_.layers[t], block);
            const T* a = work_.a + block * work_.atoms_at_once * layer.dim_out * W;
            for (std::int64_t i = receiver(0); i < receiver(1); ++i) {
                apply(layer.uncouple, a + (i - first_) * layer.dim_out * W, products_);
                for (int n = 0; n < count; ++n)
                    passes.pull(masks[n])(b, system_.start[i] - first_edge_, system_.start[i + 1] - first_edge_,
                                          layer.starts);
            }
        }
    }

    // ---- forces
    // Gradients of edges to forces and virials, with those of densities and of the repulsion.
    void push(int first_layer, int last_layer) {
        const int used = work_.components;
        const std::int64_t width = work_.geometry.width;
        const double scale = model_.knots / model_.cutoff;
        alignas(64) T direction[3][W] = {}, by_harmonic[kMostHarmonics][W] = {};
        std::int64_t receiver = begin_;
        for (std::int64_t b = system_.start[begin_]; b < system_.start[stop_]; b += W) {
            const int count = static_cast<int>(smaller(system_.start[stop_] - b, W));
            double by_length[W];
            for (int lane = 0; lane < count; ++lane) {
                const std::int64_t e = b + lane - first_edge_;
                for (int a = 0; a < 3; ++a) direction[a][lane] = static_cast<T>(work_.geometry.unit[4 * e + a]);
                for (int k = 0; k < used; ++k) by_harmonic[k][lane] = work_.gradient[e * width + k];
                for (int share = 1; share < work_.grid.shares; ++share)
                    for (int k = 0; k < used; ++k)
                        by_harmonic[k][lane] += work_.gradient[(share * work_.edges_at_once + e) * width + k];
                by_length[lane] = scale * static_cast<double>(by_harmonic[0][lane]);
            }
            V directions[3], y[kMostHarmonics], to_y[kMostHarmonics], to_direction[3];
            for (int a = 0; a < 3; ++a) directions[a] = V::load(direction[a]);
            harmonics_of(model_, directions, y);
            for (int k = 0; k < used; ++k) to_y[k] = V::load(by_harmonic[k]);
            pull_harmonics(model_, y, to_y, to_direction);
            for (int a = 0; a < 3; ++a) to_direction[a].store(direction[a]);
            for (int lane = 0; lane < count; ++lane) {
                const std::int64_t e = b + lane;
                while (e >= system_.start[receiver + 1]) ++receiver;
                push_edge(e, receiver, by_length[lane] + by_pair(e, receiver, first_layer, last_layer),
                          direction[0][lane], direction[1][lane], direction[2][lane]);
            }
        }
    }

    void push_edge(std::int64_t e, std::int64_t receiver, double by_length, double x, double y, double z) {
        const double* unit = work_.geometry.unit + 4 * (e - first_edge_);
        const double by_direction[3] = {x, y, z};
        const double along = x * unit[0] + y * unit[1] + z * unit[2];
        double* virial = virials_ + 9 * system_.graph[receiver];
        for (int a = 0; a < 3; ++a) {
            const double f = (by_direction[a] - along * unit[a]) * unit[3] + by_length * unit[a];
            forces_[3 * receiver + a] -= f;
            forces_[3 * static_cast<std::int64_t>(system_.sender[e]) + a] += f;
            for (int other = 0; other < 3; ++other) virial[3 * other + a] += unit[other] / unit[3] * f;
        }
    }

    // Derivatives by the length of an edge that do not come through the convolutions.
    double by_pair(std::int64_t e, std::int64_t receiver, int first_layer, int last_layer) {
        double total = 0.0, slope;
        const double scale = model_.knots / model_.cutoff;
        for (int t = first_layer; t <= last_layer; ++t)
            if (model_.layers[t].density != nullptr) {
                piece_at<T>(model_.layers[t].density, work_.geometry.row[e - first_edge_],
                            static_cast<double>(work_.geometry.fraction[e - first_edge_]), scale, slope);
                total += work_.layers[t].to_density[receiver] * slope;
            }
        const EngineRepulsion& repulsion = model_.repulsion;
        if (first_layer == 0 && repulsion.power > 0) {
            const int pair = system_.element[receiver] * model_.num_elements + system_.sender_element[e];
            work_.energies[receiver * model_.readout.outputs + repulsion.column] +=
                repel<T>(repulsion, pair, 1.0 / work_.geometry.unit[4 * (e - first_edge_) + 3], slope);
            total += model_.readout.seed[repulsion.column] * slope;
        }
        return total;
    }

    // Results of all workers together, in the caller's order.
    void gather() {
        const std::int64_t N = system_.atoms;
        const int outputs = model_.readout.outputs;
        for (std::int64_t i = part(N, workers_, worker_); i < part(N, workers_, worker_ + 1); ++i) {
            const std::int64_t place = system_.order[i];
            for (int n = 0; n < outputs; ++n) results_.energies[place * outputs + n] = work_.energies[i * outputs + n];
            for (int a = 0; a < 3; ++a) {
                double sum = 0.0;
                for (int worker = 0; worker < workers_; ++worker) sum += work_.forces[(worker * N + i) * 3 + a];
                results_.forces[3 * place + a] = sum;
            }
        }
        for (std::int64_t n = part(9 * system_.graphs, workers_, worker_);
             n < part(9 * system_.graphs, workers_, worker_ + 1); ++n) {
            double sum = 0.0;
            for (int worker = 0; worker < workers_; ++worker) sum += work_.virials[worker * 9 * system_.graphs + n];
            results_.virial[n] = sum;
        }
    }

    // ---- the first layer by moments
    EdgeBlock<T> moment_edges() const {
        EdgeBlock<T> b = edges_of(model_.layers[0], work_.layers[0], 0);
        b.gradient = work_.gradient;
        b.table = model_.moments.table;
        b.row_stride = (kPieceDegree<T> + 1) * W;
        b.table_block = num_rows() * b.row_stride;
        return b;
    }
    std::int64_t moment_stride() const { return static_cast<std::int64_t>(model_.num_elements) * model_.moments.blocks * W; }

    template <class Body>
    void for_sender_elements(std::int64_t i, const Body& body) {
        std::int64_t e = system_.start[i];
        for (int z = 0; z < model_.num_elements; ++z) {
            const std::int64_t begin = e;
            while (e < system_.start[i + 1] && system_.sender_element[e] == z) ++e;
            body(z, begin - first_edge_, e - first_edge_);
        }
    }

    void moments_forward() {
        const EdgeBlock<T> b = moment_edges();
        const EnginePasses<T> passes = passes_(model_.layers[0].max_ell);
        for (std::int64_t i = begin_; i < stop_; ++i) {
            T* moments = work_.moments + (i - first_) * work_.components * moment_stride();
            for_sender_elements(i, [&](int z, std::int64_t begin, std::int64_t end) {
                passes.sum_moments(b, begin, end, model_.moments.blocks, moments + z * model_.moments.blocks * W,
                                    moment_stride());
            });
        }
    }
    void moments_backward() {
        const EdgeBlock<T> b = moment_edges();
        const EnginePasses<T> passes = passes_(model_.layers[0].max_ell);
        for (std::int64_t i = begin_; i < stop_; ++i) {
            const T* moments = work_.moments + (i - first_) * work_.components * moment_stride();
            for_sender_elements(i, [&](int z, std::int64_t begin, std::int64_t end) {
                passes.pull_moments(b, begin, end, model_.moments.blocks, moments + z * model_.moments.blocks * W,
                                     moment_stride());
            });
        }
    }
    void mix_moments(bool back) {
        const LayerArrays<T>& arrays = work_.layers[0];
        const std::int64_t stride = moment_stride();
        for (int l = 0; l <= model_.layers[0].max_ell; ++l) {
            T* m = work_.moments + (l * l - first_ * work_.components) * stride;
            const FeatureRows<T> moments = {m, work_.components * stride, stride, work_.chunks_moments};
            const FeatureRows<T> basis = {arrays.x + l * l * W, work_.components * W, W, arrays.chunks_x};
            linear(model_.moments.maps[l], back, begin_, stop_, 2 * l + 1, back ? basis : moments,
                   back ? moments : basis, false);
        }
    }

    // ---- all workers
    void barrier() {
#if defined(_OPENMP)
        if (workers_ > 1) {
#pragma omp barrier
        }
#endif
    }
    template <class Number>
    static void clear(Number* numbers, std::int64_t count) {
        if (count > 0) std::memset(numbers, 0, static_cast<std::size_t>(count) * sizeof(Number));
    }
    static double now() {
        timespec time;
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
        return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
    }
    void stage(Stage which) {
        if (results_.seconds == nullptr || worker_ != 0) return;
        const double time = now();
        results_.seconds[which] += time - tick_;
        tick_ = time;
    }

    const EngineModel<T>& model_;
    const EngineSystem& system_;
    const EngineResults& results_;
    const EngineArrays<T>& work_;
    const EnginePassesOf<T> passes_;
    const bool by_moments_;
    const int worker_, workers_, share_, range_;
    T *panel_, *products_, *tile_;
    double *forces_, *virials_;
    std::int64_t first_ = 0, end_ = 0, first_edge_ = 0, begin_ = 0, stop_ = 0;
    double tick_ = 0.0;
};

}  // namespace
}  // namespace macekit
