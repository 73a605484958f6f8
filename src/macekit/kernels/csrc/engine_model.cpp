#include "engine_model.h"

#include <stdexcept>

#include "engine_packing.h"
#include "engine_system.h"
#include "instruction_sets.h"

namespace macekit {

namespace {

// Monomials as nested sums; see engine_contraction.h.
class Program {
   public:
    Program(const Trees& trees, int polynomials, int variables, int terms)
        : trees_(trees), variables_(variables), terms_(terms) {
        for (int row = 0; row < polynomials; ++row) add_sum(row);
    }
    std::vector<int> code;

   private:
    void add_sum(int node) {
        std::vector<int> leaves, branches;
        for (int child = trees_.first[node]; child < trees_.end[node]; ++child)
            (trees_.first[child] == trees_.end[child] ? leaves : branches).push_back(child);
        code.push_back(static_cast<int>(leaves.size()));
        for (const int leaf : leaves) add_node(leaf, 0);
        code.push_back(static_cast<int>(branches.size()));
        for (const int branch : branches) {
            add_node(branch, -1);
            add_sum(branch);
        }
    }
    void add_node(int node, int least) {
        const int variable = trees_.factor.at(node), term = trees_.term.at(node);
        require(variable >= 0 && variable < variables_ && term >= least && term < terms_, "a tree of monomials");
        code.push_back(variable);
        code.push_back(term);
    }
    const Trees& trees_;
    const int variables_, terms_;
};

template <class T>
class PackedEngine : public Engine {
   public:
    PackedEngine(const EngineKernels<T>& kernels, const EngineShape& shape, const Entries& raising)
        : kernels_(kernels), packing_(store_, kernels.lanes), channels_(shape.channels) {
        model_.max_ell = shape.max_ell;
        model_.blocks = packing_.blocks(shape.channels);
        model_.num_elements = shape.num_elements;
        model_.knots = shape.knots;
        model_.cutoff = shape.cutoff;
        model_.num_pairs = 0;
        for (const int pair : shape.pair) model_.num_pairs = pair >= model_.num_pairs ? pair + 1 : model_.num_pairs;
        require(static_cast<int>(shape.pair.size()) == shape.num_elements * shape.num_elements, "the list of pairs");
        model_.pair = store_.copy<int>(shape.pair.data(), static_cast<std::int64_t>(shape.pair.size()));
        model_.raising = packing_.sparse(raising);
    }
    ~PackedEngine() override { std::free(memory_.data); }
    PackedEngine(const PackedEngine&) = delete;
    PackedEngine& operator=(const PackedEngine&) = delete;

    int piece_degree() const override { return kPieceDegree<T>; }

    void add_layer(const LayerShape& shape, Numbers table, const Entries& couple, Numbers constant, Numbers density,
                   Numbers coefficients) override {
        EngineLayer<T> layer = {};
        layer.blocks = packing_.blocks(shape.width);
        layer.num_degrees = static_cast<int>(shape.degrees.size());
        layer.degrees = store_.copy<int>(shape.degrees.data(), layer.num_degrees);
        layer.num_paths = shape.num_paths;
        layer.dim_out = shape.dim_out;
        layer.dim_basis = shape.dim_basis;
        layer.num_terms = shape.num_terms;
        layer.max_ell = shape.max_ell;
        require(shape.max_ell >= 0 && shape.max_ell <= model_.max_ell && model_.max_ell <= kHighestEll, "the highest degree");
        int paths = 0;
        for (const int l : shape.degrees) {
            require(l >= 0 && l <= kHighestInput, "a degree");
            layer.starts.row[l] = layer.dim_in;
            layer.starts.path[l] = paths;
            layer.starts.product[l] = layer.num_products;
            layer.dim_in += 2 * l + 1;
            for (int sh = 0; sh <= shape.max_ell; ++sh)
                for (int out = sh < l ? l - sh : sh - l; out <= sh + l && out <= shape.max_ell; out += 2) {
                    ++paths;
                    layer.num_products += (2 * sh + 1) * (2 * l + 1);
                }
        }
        require(paths == shape.num_paths, "the list of paths");
        layer.table = packing_.pieces(table, num_rows(), kPieceDegree<T> + 1, shape.num_paths, shape.width);
        layer.couple = packing_.sparse(couple);
        Entries transposed = {layer.num_products, couple.column, couple.row, couple.value};
        layer.uncouple = packing_.sparse(transposed);
        layer.constant = packing_.blocked(constant, model_.num_elements, 1, shape.width);
        if (density.size > 0) {
            require(density.size == num_rows() * (kPieceDegree<T> + 1), "the density");
            layer.density = store_.copy<double>(density.data, density.size);
        }
        const int components = (shape.max_ell + 1) * (shape.max_ell + 1);
        layer.program = program(shape.polynomials, shape.dim_basis, components, shape.num_terms);
        layer.gradient = program(shape.gradient, components, components + shape.dim_basis, shape.num_terms);
        layer.coefficients = packing_.blocked(coefficients, model_.num_elements, shape.num_terms, channels_);
        layers_.push_back(layer);
        widths_.push_back(shape.width);
        mixings_.emplace_back();
        sources_.emplace_back();
    }

    void add_mixing(int layer, int degree, int first_row, int paths, Numbers matrices) override {
        mixings_.at(layer).push_back(
            {degree, first_row, paths, packing_.linear(matrices, paths, widths_.at(layer), channels_)});
    }

    void add_source(int layer, int from, int degree, int row_from, int row_to, Numbers matrices) override {
        require(from < layer, "a source");
        sources_.at(layer).push_back(
            {from, degree, row_from, row_to, packing_.linear(matrices, 1, channels_, widths_.at(layer))});
    }

    void set_moments(int hidden, Numbers table, const std::vector<Numbers>& matrices) override {
        require(static_cast<int>(matrices.size()) == layers_.at(0).max_ell + 1, "the list of matrices");
        model_.moments.blocks = packing_.blocks(hidden);
        model_.moments.table = packing_.pieces(table, num_rows(), kPieceDegree<T> + 1, 1, hidden);
        for (const Numbers& matrix : matrices)
            moments_.push_back(packing_.linear(matrix, model_.num_elements, hidden, channels_));
        hidden_ = hidden;
    }

    void set_readout(const ReadoutShape& shape, Numbers constant, Numbers middle, Numbers middle_bias, Numbers last,
                     Numbers last_bias, Numbers scale, Numbers offset, Numbers seed) override {
        EngineReadout<T>& readout = model_.readout;
        const int H = shape.hidden, outputs = shape.outputs;
        columns_ = H + outputs;
        require(columns_ <= 1024, "the read-out");
        require(constant.size == static_cast<std::int64_t>(model_.num_elements) * columns_, "the read-out's constant");
        require(middle.size == 0 || (middle.size == H * H && middle_bias.size == H), "the read-out's second layer");
        require(last.size == H * outputs && last_bias.size == outputs, "the read-out's last layer");
        require(scale.size == outputs && seed.size == outputs, "the scale");
        require(offset.size == static_cast<std::int64_t>(model_.num_elements) * outputs, "the offset");
        readout.blocks = packing_.blocks(columns_);
        readout.hidden = H;
        readout.outputs = outputs;
        readout.activation = shape.activation;
        readout.norm = shape.norm;
        readout.constant = copy(constant);
        readout.middle = middle.size ? copy(middle) : nullptr;
        readout.middle_bias = middle.size ? copy(middle_bias) : nullptr;
        readout.last = copy(last);
        readout.last_bias = copy(last_bias);
        readout.scale = copy(scale);
        readout.offset = copy(offset);
        readout.seed = copy(seed);
    }

    void add_reading(int from, Numbers matrices) override {
        readings_.push_back({from, 0, 0, 0, packing_.linear(matrices, 1, channels_, columns_)});
    }

    void set_repulsion(int power, int column, Numbers weights, Numbers decays, Numbers strength, Numbers inverse,
                       Numbers reach) override {
        const std::int64_t pairs = static_cast<std::int64_t>(model_.num_elements) * model_.num_elements;
        require(weights.size == 4 && decays.size == 4, "the repulsion");
        require(strength.size == pairs && inverse.size == pairs && reach.size == pairs, "the repulsion of pairs");
        model_.repulsion = {power, copy(weights), copy(decays), copy(strength), copy(inverse), copy(reach), column};
    }

    int num_elements() const override { return model_.num_elements; }

    double evaluate(SortedSystem& sorted, const Placement& placement, const EngineResults& results, int first_layer,
                    int threads) override {
        const std::lock_guard<std::mutex> lock(mutex_);
        complete();
        const double shortest = sorted.place(placement.positions, placement.cell, model_.cutoff);
        const EngineSystem system = sorted.view();
        const bool by_moments = model_.moments.blocks > 0 && (first_layer == 1 || (first_layer == 0 && moments_pay(system)));
        kernels_.evaluate(model_, system, results, memory_, by_moments, threads);
        return shortest;
    }

   private:
    std::int64_t num_rows() const { return static_cast<std::int64_t>(model_.num_pairs) * (model_.knots + 1); }
    const int* program(const Trees& trees, int polynomials, int variables, int terms) {
        const Program made(trees, polynomials, variables, terms);
        return store_.copy<int>(made.code.data(), static_cast<std::int64_t>(made.code.size()));
    }
    const double* copy(Numbers numbers) { return store_.template copy<double>(numbers.data, numbers.size); }

    // The lists as the kernels have them, once everything has been added.
    void complete() {
        for (std::size_t t = 0; t < layers_.size(); ++t) {
            layers_[t].sources = sources_[t].data();
            layers_[t].num_sources = static_cast<int>(sources_[t].size());
            layers_[t].mixings = mixings_[t].data();
            layers_[t].num_mixings = static_cast<int>(mixings_[t].size());
        }
        model_.num_layers = static_cast<int>(layers_.size());
        model_.layers = layers_.data();
        model_.moments.maps = moments_.data();
        model_.readout.sources = readings_.data();
        model_.readout.num_sources = static_cast<int>(readings_.size());
    }

    // Multiplications of the first layer: moments of hidden units by element of the senders, or messages.
    bool moments_pay(const EngineSystem& system) const {
        const double L = layers_[0].max_ell + 1, components = L * L;
        const double edges = system.atoms ? static_cast<double>(system.edges) / static_cast<double>(system.atoms) : 0.0;
        const double pieces = kPieceDegree<T>, lanes = kernels_.lanes;
        const double hidden = model_.moments.blocks * lanes, width = layers_[0].blocks * lanes;
        const double outputs = model_.blocks * lanes * components;
        return edges * hidden * (components + pieces) + hidden * model_.num_elements * outputs <
               edges * width * (components + pieces * L) + width * outputs;
    }

    EngineKernels<T> kernels_;
    Store store_;
    Packing<T> packing_;
    EngineModel<T> model_ = {};
    int channels_, columns_ = 0, hidden_ = 0;
    std::vector<int> widths_;
    std::vector<EngineLayer<T>> layers_;
    std::vector<std::vector<EngineMixing<T>>> mixings_;
    std::vector<std::vector<EngineSource<T>>> sources_;
    std::vector<EngineLinear<T>> moments_;
    std::vector<EngineSource<T>> readings_;
    EngineMemory memory_ = {nullptr, 0};
    std::mutex mutex_;
};

}  // namespace

std::unique_ptr<Engine> make_engine(const std::string& instruction_set, bool double_precision, const EngineShape& shape,
                                    const Entries& raising) {
    if (double_precision)
        return std::make_unique<PackedEngine<double>>(engine_kernels_for<double>(instruction_set), shape, raising);
    return std::make_unique<PackedEngine<float>>(engine_kernels_for<float>(instruction_set), shape, raising);
}

}  // namespace macekit
