#include "layer_sweeps.h"

#include <cstring>

#include "table_opening.h"

namespace macekit {
namespace {

// Numbers of the layer between its maps: values, derivatives of the energy by them, or their tangents.
template <class T>
struct Stages {
    T *sent, *messages, *mixed, *basis, *polynomials;
};

template <class T>
class Sweeps final : public LayerSweeps {
   public:
    Sweeps(const LayerParts& parts, const Run& run, const Effort& effort, const LayerSizes& sizes, const Knots& knots,
           Address sender, Address receiver, Address species)
        : parts_(parts), effort_(effort), sizes_(sizes), knots_(knots), edges_(sizes.atoms, sizes.edges, sender, receiver),
          species_(at<const std::int64_t>(species), sizes.atoms, sizes.species, "species"),
          matrices_of_(matrix_kernels_for<T>(run.instruction_set)), convolve_(table_kernels_for<T>(run.instruction_set)),
          contract_(contraction_kernels_for<T>(run.instruction_set)), structure_(parts.convolution->view<T>()),
          polynomials_(parts.contraction->view()) {}

    void values(const std::array<Address, 5>& given, const std::vector<std::vector<Address>>& matrices,
                Address out) override {
        h_ = at<const T>(given[0]), y_ = at<const T>(given[1]), lengths_ = at<const double>(given[2]);
        table_ = at<const T>(given[3]), coefficients_ = at<const T>(given[4]);
        matrices_ = matrices;
        values_ = stages(value_memory_);
        product(kUp, h_, values_.sent);
        TableArguments<T> edges = edge_arguments();
        open(edges, false);
        edges.out = values_.messages;
        convolve(0, edges);
        to_basis(values_);
        ContractionArguments<T> atoms = atom_arguments();
        atoms.out = values_.polynomials;
        contract(0, atoms);
        output(values_.polynomials, h_, at<T>(out));
    }

    void geometry(Address grad, const std::array<Address, 3>& results) override {
        adjoint_ = at<const T>(grad);
        adjoints_ = stages(adjoint_memory_);
        transposed(kProduct, adjoint_, adjoints_.polynomials);
        ContractionArguments<T> atoms = atom_arguments();
        atoms.grad = adjoints_.polynomials;
        atoms.to_a = adjoints_.basis;
        contract(1, atoms);
        to_messages(adjoints_);
        TableArguments<T> edges = edge_arguments();
        edges.grad = adjoints_.messages;
        edges.to_h = adjoints_.sent;
        edges.to_y = at<T>(results[1]);
        edges.to_lengths = at<double>(results[2]);
        convolve(1, edges);
        to_features(adjoints_.sent, adjoint_, at<T>(results[0]));
    }

    void tangents(const std::array<Address, 3>& given, Address out) override {
        moved_h_ = at<const T>(given[0]), moved_y_ = at<const T>(given[1]), moved_lengths_ = at<const double>(given[2]);
        tangents_ = stages(tangent_memory_);
        curvature_memory_ = std::make_unique<Workspace<T>>(sizes_.atoms * basis_width() + num_coefficients());
        if (moved_h_ != nullptr) product(kUp, moved_h_, tangents_.sent);
        TableArguments<T> edges = along(edge_arguments());
        open(edges, true);
        edges.out = tangents_.messages;
        convolve(3, edges);
        to_basis(tangents_);
        ContractionArguments<T> atoms = atom_arguments();
        atoms.grad = adjoints_.polynomials;
        atoms.tangent_a = tangents_.basis;
        atoms.out = tangents_.polynomials;
        atoms.to_a = curvature_memory_->data();
        atoms.to_coefficients = curvature_memory_->data() + sizes_.atoms * basis_width();
        contract(2, atoms);
        output(tangents_.polynomials, moved_h_, at<T>(out));
    }

    void weights(Address grad, const std::array<Address, 3>& results,
                 const std::vector<std::vector<Address>>& gradients) override {
        const std::int64_t width = sizes_.atoms * plan(kProduct).width_out();
        const Workspace<T> none(grad == 0 ? width : 0);
        if (grad == 0) none.clear(width);
        const T* by_out = grad == 0 ? none.data() : at<const T>(grad);
        std::unique_ptr<Workspace<T>> memory;
        const Stages<T> by = stages(memory);
        transposed(kProduct, by_out, by.polynomials);
        ContractionArguments<T> atoms = atom_arguments();
        atoms.grad = by.polynomials;
        atoms.to_a = by.basis;
        atoms.to_coefficients = at<T>(results[2]);
        contract(1, atoms);
        if (has_moved()) {
            const T* curvature = curvature_memory_->data();
            add(curvature, sizes_.atoms * basis_width(), by.basis);
            add(curvature + sizes_.atoms * basis_width(), num_coefficients(), atoms.to_coefficients);
        }
        to_messages(by);
        TableArguments<T> edges = has_moved() ? along(edge_arguments()) : edge_arguments();
        edges.grad = by.messages;
        edges.tangent_grad = has_moved() ? adjoints_.messages : nullptr;
        edges.to_h = by.sent;
        edges.to_table = at<T>(results[1]);
        convolve(has_moved() ? 4 : 1, edges);
        to_features(by.sent, by_out, at<T>(results[0]));
        outer(kUp, {h_, moved_h_}, {by.sent, adjoints_.sent}, gradients);
        outer(kLinear, {values_.messages, tangents_.messages}, {by.mixed, adjoints_.mixed}, gradients);
        outer(kMix, {values_.mixed, tangents_.mixed}, {by.basis, adjoints_.basis}, gradients);
        outer(kProduct, {values_.polynomials, tangents_.polynomials}, {by_out, adjoint_}, gradients);
        outer(kResidual, {h_, moved_h_}, {by_out, adjoint_}, gradients);
    }

   private:
    const MatrixPlan& plan(Map map) const { return *parts_.plans[map]; }
    bool has(Map map) const { return parts_.plans[map] != nullptr; }
    bool has_moved() const { return curvature_memory_ != nullptr; }
    std::int64_t channels() const { return plan(kUp).width_out() / structure_.dim_in; }
    std::int64_t basis_width() const { return plan(has(kMix) ? kMix : kLinear).width_out(); }
    std::int64_t basis_channels() const { return basis_width() / polynomials_.dim_in; }
    std::int64_t num_coefficients() const { return sizes_.species * polynomials_.num_terms * basis_channels(); }

    // Memory for one set of numbers, each on a boundary of 64 bytes.
    Stages<T> stages(std::unique_ptr<Workspace<T>>& memory) const {
        std::array<std::int64_t, 5> sizes = {plan(kUp).width_out(), plan(kLinear).width_in(), plan(kLinear).width_out(),
                                             has(kMix) ? basis_width() : 0, plan(kProduct).width_in()};
        std::array<std::int64_t, 6> start = {};
        for (std::size_t n = 0; n < sizes.size(); ++n) start[n + 1] = start[n] + (sizes_.atoms * sizes[n] + 15) / 16 * 16;
        memory = std::make_unique<Workspace<T>>(start[5]);
        T* data = memory->data();
        T* mixed = data + start[2];
        return {data, data + start[1], mixed, has(kMix) ? data + start[3] : mixed, data + start[4]};
    }

    template <class Body>
    void with(Map map, const Body& body) const {
        plan(map).template with<T>(matrices_[map], body);
    }

    // Rows of features are as wide as the plan says, those of the output of the residual as wide as the layer's.
    void multiply(Map map, const T* in, T* out, bool is_transposed) const {
        const std::int64_t width = is_transposed ? plan(map).width_in() : plan(map).width_out();
        if (!plan(map).covers(sizes_.atoms, is_transposed))
            std::memset(out, 0, static_cast<std::size_t>(sizes_.atoms * width) * sizeof(T));
        with(map, [&](MatrixArguments<T> arguments) {
            if (map == kResidual && is_transposed) arguments.width_out = plan(kProduct).width_out();
            matrices_of_.apply(arguments, in, out, is_transposed, effort_.threads_for(plan(map).work()));
        });
    }
    void product(Map map, const T* in, T* out) const { multiply(map, in, out, false); }
    void transposed(Map map, const T* in, T* out) const { multiply(map, in, out, true); }

    // The gradient of the matrices of a map, if it is asked for; pairs after the first where there are tangents.
    void outer(Map map, const std::array<const T*, 2>& x, const std::array<const T*, 2>& y,
               const std::vector<std::vector<Address>>& gradients) const {
        if (!has(map) || gradients[map].empty()) return;
        const int pairs = has_moved() && x[1] != nullptr ? 2 : 1;
        plan(map).template with<T>(gradients[map], [&](MatrixArguments<T> arguments) {
            if (map == kResidual) arguments.width_out = plan(kProduct).width_out();
            matrices_of_.outer(arguments, x.data(), y.data(), pairs, effort_.threads_for(pairs * plan(map).work()));
        });
    }

    void to_basis(const Stages<T>& of) const {
        product(kLinear, of.messages, of.mixed);
        if (has(kMix)) product(kMix, of.mixed, of.basis);
    }
    void to_messages(const Stages<T>& of) const {
        if (has(kMix)) transposed(kMix, of.basis, of.mixed);
        transposed(kLinear, of.mixed, of.messages);
    }

    // The product's linear map, and the residual of features, which may not be there.
    void output(const T* polynomials, const T* h, T* out) const {
        product(kProduct, polynomials, out);
        if (!has(kResidual) || h == nullptr) return;
        const std::int64_t width = plan(kResidual).width_out(), row = plan(kProduct).width_out();
        const Workspace<T> carried(sizes_.atoms * width);
        product(kResidual, h, carried.data());
        for (std::int64_t n = 0; n < sizes_.atoms; ++n) add(carried.data() + n * width, width, out + n * row);
    }

    // The gradient by the features out of that by what is sent and by the output.
    void to_features(const T* to_sent, const T* by_out, T* to_h) const {
        transposed(kUp, to_sent, to_h);
        if (!has(kResidual)) return;
        const std::int64_t count = sizes_.atoms * plan(kResidual).width_in();
        const Workspace<T> carried(count);
        transposed(kResidual, by_out, carried.data());
        add(carried.data(), count, to_h);
    }

    static void add(const T* from, std::int64_t count, T* to) {
        for (std::int64_t n = 0; n < count; ++n) to[n] += from[n];
    }

    TableArguments<T> edge_arguments() const {
        TableArguments<T> arguments = {};
        arguments.channels = channels();
        arguments.rows = knots_.rows, arguments.first = knots_.first, arguments.step = knots_.step;
        arguments.h = values_.sent, arguments.y = y_, arguments.lengths = lengths_, arguments.table = table_;
        arguments.opened = &opened_;
        return arguments;
    }
    // The edges for this sweep and the next.
    void open(const TableArguments<T>& arguments, bool has_tangent) {
        edge_memory_ = std::make_unique<EdgeMemory<T>>(sizes_.edges, structure_.harmonics(), knots_.rows, has_tangent);
        opened_ = edge_memory_->view();
        convolve_.open(structure_, edges_.view(), arguments, opened_, effort_.threads_for(convolution_work()));
    }
    TableArguments<T> along(TableArguments<T> arguments) const {
        arguments.tangent_h = moved_h_ == nullptr ? nullptr : tangents_.sent;
        arguments.tangent_y = moved_y_, arguments.tangent_lengths = moved_lengths_;
        return arguments;
    }
    void convolve(int pass, const TableArguments<T>& arguments) const {
        convolve_.passes[pass](structure_, edges_.view(), arguments, effort_.threads_for(convolution_work()));
    }
    double convolution_work() const {
        return effort_.of_edge * static_cast<double>(sizes_.edges * structure_.dim_out * channels());
    }

    ContractionArguments<T> atom_arguments() const {
        ContractionArguments<T> arguments = {};
        arguments.channels = basis_channels();
        arguments.a = values_.basis, arguments.coefficients = coefficients_;
        return arguments;
    }
    void contract(int pass, const ContractionArguments<T>& arguments) const {
        const double terms = static_cast<double>(sizes_.atoms * polynomials_.num_terms * basis_channels());
        const Species sorted = {sizes_.atoms, sizes_.species, species_.start.data(), species_.position.data()};
        contract_.passes[pass](polynomials_, sorted, arguments, effort_.threads_for(effort_.of_term[pass] * terms));
    }

    const LayerParts parts_;
    const Effort effort_;
    const LayerSizes sizes_;
    const Knots knots_;
    const SortedEdges edges_;
    const Grouping species_;
    const MatrixKernels<T> matrices_of_;
    const TableKernels<T> convolve_;
    const ContractionKernels<T> contract_;
    const macekit::ConvolutionStructure<T> structure_;
    const macekit::ContractionStructure polynomials_;

    std::vector<std::vector<Address>> matrices_;
    const T *h_ = nullptr, *y_ = nullptr, *table_ = nullptr, *coefficients_ = nullptr;
    const double* lengths_ = nullptr;
    const T* adjoint_ = nullptr;  // derivative of the energy by the output
    const T *moved_h_ = nullptr, *moved_y_ = nullptr;
    const double* moved_lengths_ = nullptr;
    std::unique_ptr<Workspace<T>> value_memory_, adjoint_memory_, tangent_memory_;
    std::unique_ptr<EdgeMemory<T>> edge_memory_;
    OpenedEdges<T> opened_ = {};
    std::unique_ptr<Workspace<T>> curvature_memory_;  // by the basis and the coefficients, of the tangents
    Stages<T> values_ = {}, adjoints_ = {}, tangents_ = {};
};

}  // namespace

std::unique_ptr<LayerSweeps> make_layer_sweeps(const LayerParts& parts, const Run& run, const Effort& effort,
                                               const LayerSizes& sizes, const Knots& knots, Address sender,
                                               Address receiver, Address species) {
    if (run.twice)
        return std::make_unique<Sweeps<double>>(parts, run, effort, sizes, knots, sender, receiver, species);
    return std::make_unique<Sweeps<float>>(parts, run, effort, sizes, knots, sender, receiver, species);
}

}  // namespace macekit
