// The extension module: pointers and sizes from Python to the kernels. `kernels/cpu.py` is its only caller and checks
// shapes, precisions and memory layout; indices are checked here.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>

#include "engine_module.h"
#include "instruction_sets.h"
#include "layer_module.h"
#include "module_arguments.h"

namespace nb = nanobind;

namespace macekit {
namespace {

template <class T>
void convolve(const ConvolutionTable& table, const Run& run, int pass, const Edges& edges, std::int64_t channels,
              const std::array<Address, 11>& p) {
    const ConvolutionArguments<T> arguments = {channels,    at<T>(p[0]), at<T>(p[1]), at<T>(p[2]),
                                               at<T>(p[3]), at<T>(p[4]), at<T>(p[5]), at<T>(p[6]),
                                               at<T>(p[7]), at<T>(p[8]), at<T>(p[9]), at<T>(p[10])};
    convolution_kernels_for<T>(run.instruction_set).passes[pass](table.view<T>(), edges, arguments, run.threads);
}

// pass: 0 forward, 1 backward, 2 second backward. Addresses in the order of `ConvolutionArguments`, 0: not there.
void edge_convolution(const ConvolutionTable& table, const Run& run, int pass, std::int64_t atoms, std::int64_t count,
                      std::int64_t channels, Address sender, Address receiver,
                      const std::array<Address, 11>& addresses) {
    const nb::gil_scoped_release without_gil;
    const SortedEdges edges(atoms, count, sender, receiver);
    if (run.twice)
        convolve<double>(table, run, pass, edges.view(), channels, addresses);
    else
        convolve<float>(table, run, pass, edges.view(), channels, addresses);
}

template <class T>
void convolve_table(const ConvolutionTable& table, const Run& run, int pass, const Edges& edges, std::int64_t channels,
                    const Knots& knots, const std::array<Address, 14>& p) {
    const TableArguments<T> arguments = {
        channels,     knots.rows,   knots.first,  knots.step,        at<T>(p[0]),      at<T>(p[1]),  at<double>(p[2]),
        at<T>(p[3]),  at<T>(p[4]),  at<T>(p[5]),  at<T>(p[6]),       at<double>(p[7]), at<T>(p[8]),  at<T>(p[9]),
        at<T>(p[10]), at<T>(p[11]), at<double>(p[12]), at<T>(p[13]), nullptr};
    table_kernels_for<T>(run.instruction_set).passes[pass](table.view<T>(), edges, arguments, run.threads);
}

// The same with a table of radial functions, and the passes 3 (tangent of the forward) and 4 (gradients by the weights of
// a function of the output and its tangent); addresses in the order of `TableArguments`.
void table_convolution(const ConvolutionTable& table, const Run& run, int pass, std::int64_t atoms, std::int64_t count,
                       std::int64_t channels, const Knots& knots, Address sender, Address receiver,
                       const std::array<Address, 14>& addresses) {
    const nb::gil_scoped_release without_gil;
    const SortedEdges edges(atoms, count, sender, receiver);
    if (run.twice)
        convolve_table<double>(table, run, pass, edges.view(), channels, knots, addresses);
    else
        convolve_table<float>(table, run, pass, edges.view(), channels, knots, addresses);
}

template <class T>
void contract(const ContractionTable& table, const Run& run, int pass, const Species& species, std::int64_t channels,
              const std::array<Address, 8>& p) {
    const ContractionArguments<T> arguments = {channels,    at<T>(p[0]), at<T>(p[1]), at<T>(p[2]), at<T>(p[3]),
                                               at<T>(p[4]), at<T>(p[5]), at<T>(p[6]), at<T>(p[7])};
    contraction_kernels_for<T>(run.instruction_set).passes[pass](table.view(), species, arguments, run.threads);
}

// The same for the contraction, in the order of `ContractionArguments`.
void symmetric_contraction(const ContractionTable& table, const Run& run, int pass, std::int64_t atoms,
                           std::int64_t num_species, std::int64_t channels, Address species,
                           const std::array<Address, 8>& addresses) {
    const nb::gil_scoped_release without_gil;
    const Grouping grouping(at<const std::int64_t>(species), atoms, num_species, "species");
    const Species sorted = {atoms, num_species, grouping.start.data(), grouping.position.data()};
    if (run.twice)
        contract<double>(table, run, pass, sorted, channels, addresses);
    else
        contract<float>(table, run, pass, sorted, channels, addresses);
}

template <class T>
void multiply_matrices(const MatrixPlan& plan, const Run& run, const std::vector<Address>& matrices, Address in,
                       Address out, bool transposed) {
    plan.with<T>(matrices, [&](const MatrixArguments<T>& arguments) {
        matrix_kernels_for<T>(run.instruction_set)
            .apply(arguments, at<const T>(in), at<T>(out), transposed, run.threads);
    });
}

// y = s x W for all blocks, or x = s y Wᵀ.
void matrix_products(const MatrixPlan& plan, const Run& run, const std::vector<Address>& matrices, Address in, Address out,
                     bool transposed) {
    const nb::gil_scoped_release without_gil;
    (run.twice ? multiply_matrices<double> : multiply_matrices<float>)(plan, run, matrices, in, out, transposed);
}

template <class T>
void sum_matrices(const MatrixPlan& plan, const Run& run, const std::vector<Address>& matrices,
                  const std::vector<Address>& x, const std::vector<Address>& y) {
    std::vector<const T*> left, right;
    for (std::size_t n = 0; n < x.size(); ++n) {
        left.push_back(at<const T>(x[n]));
        right.push_back(at<const T>(y.at(n)));
    }
    plan.with<T>(matrices, [&](const MatrixArguments<T>& arguments) {
        matrix_kernels_for<T>(run.instruction_set)
            .outer(arguments, left.data(), right.data(), static_cast<int>(x.size()), run.threads);
    });
}

// W = s Σ xᵀ y over pairs of features, for all blocks.
void matrix_gradients(const MatrixPlan& plan, const Run& run, const std::vector<Address>& matrices,
                      const std::vector<Address>& x, const std::vector<Address>& y) {
    const nb::gil_scoped_release without_gil;
    (run.twice ? sum_matrices<double> : sum_matrices<float>)(plan, run, matrices, x, y);
}

// Products of matrices, or their gradients. Sizes and addresses of a pair in the order of `MatrixChain`.
void matrix_chains(const Run& run, bool backward, const std::vector<std::array<std::int64_t, 4>>& sizes,
                   const std::vector<std::array<Address, 5>>& addresses) {
    const nb::gil_scoped_release without_gil;
    in_precision(run, [&](auto number) {
        using T = decltype(number);
        std::vector<MatrixChain<T>> chains;
        for (std::size_t n = 0; n < sizes.size(); ++n) {
            const auto& [rows, inner, columns, several] = sizes[n];
            const auto& p = addresses.at(n);
            chains.push_back({rows, inner, columns, several, at<T>(p[0]), at<T>(p[1]), at<T>(p[2]), at<T>(p[3]), at<T>(p[4])});
        }
        const MatrixKernels<T> kernels = matrix_kernels_for<T>(run.instruction_set);
        (backward ? kernels.chain_backward : kernels.chain)(chains.data(), static_cast<std::int64_t>(chains.size()), run.threads);
    });
}

// which: 0 lengths and harmonics, 1 gradients, 2 tangents. Addresses in the order of `EdgeNumbers`.
void edge_harmonics(const HarmonicTable& table, const Run& run, int which, std::int64_t edges, Address vectors,
                    double shortest, const std::array<Address, 3>& p) {
    const nb::gil_scoped_release without_gil;
    in_precision(run, [&](auto number) {
        using T = decltype(number);
        const EdgeNumbers<T> numbers = {at<double>(p[0]), at<double>(p[1]), at<T>(p[2])};
        const auto pass = harmonic_kernels_for<T>(run.instruction_set).passes[which];
        pass(table.view(), edges, at<const double>(vectors), shortest, numbers, run.threads);
    });
}

// A multilayer perceptron for tables of radial functions: its widths, and factors of its matrices.
struct RadialPlan {
    std::vector<std::int64_t> widths;
    std::vector<double> factors;
};

// The table, or gradients of the matrices out of that by the table. Addresses: basis, envelope or 0, filtered layer.
void radial_table(const RadialPlan& plan, const Run& run, std::int64_t knots, const std::array<Address, 3>& p,
                  const std::vector<Address>& matrices, const std::vector<Address>& inner, Address table,
                  const std::vector<Address>& gradients) {
    const nb::gil_scoped_release without_gil;
    in_precision(run, [&](auto number) {
        using T = decltype(number);
        const std::vector<const T*> given = pointers<const T>(matrices);
        const std::vector<T*> hidden = pointers<T>(inner), made = pointers<T>(gradients);
        const RadialArguments<T> arguments = {knots, static_cast<int>(given.size()), plan.widths.data(),
                                              plan.factors.data(), at<T>(p[0]), at<T>(p[1]), given.data(),
                                              hidden.data(), at<T>(p[2])};
        const RadialKernels<T> kernels = radial_kernels_for<T>(run.instruction_set);
        if (made.empty())
            kernels.forward(arguments, at<T>(table), run.threads);
        else
            kernels.backward(arguments, at<T>(table), made.data(), run.threads);
    });
}

int lanes(const Run& run) {
    return run.twice ? matrix_kernels_for<double>(run.instruction_set).lanes
                     : matrix_kernels_for<float>(run.instruction_set).lanes;
}

}  // namespace
}  // namespace macekit

NB_MODULE(_core, module) {
    using namespace macekit;
    nb::set_leak_warnings(false);  // a traceback that ends the interpreter keeps objects of its frames: no leak
    using Ints = const std::vector<int>&;
    nb::class_<ConvolutionTable>(module, "ConvolutionTable")
        .def(nb::init<int, int, int, Ints, Ints, Ints, Ints, Ints, Ints, const std::vector<double>&>(),
             nb::arg("max_ell"), nb::arg("dim_in"), nb::arg("dim_out"), nb::arg("l_in"), nb::arg("l_sh"),
             nb::arg("first_input"), nb::arg("harmonic"), nb::arg("row"), nb::arg("column"), nb::arg("value"));
    nb::class_<ContractionTable>(module, "ContractionTable")
        .def(nb::init<int, int, const std::vector<std::array<std::uint32_t, 3>>&,
                      const std::vector<std::array<std::uint32_t, 2>>&,
                      const std::vector<std::array<std::uint32_t, 3>>&>(),
             nb::arg("dim_in"), nb::arg("dim_out"), nb::arg("rows"), nb::arg("columns"), nb::arg("entries"));
    nb::class_<Run>(module, "Run")
        .def("__init__",
             [](Run* run, const std::string& instruction_set, bool twice, int threads) {
                 new (run) Run{instruction_set, twice, threads};
             },
             nb::arg("instruction_set"), nb::arg("double_precision"), nb::arg("threads"));
    nb::class_<Knots>(module, "Knots")
        .def("__init__", [](Knots* knots, double first, double step, std::int64_t rows) {
            new (knots) Knots{first, step, rows};
        }, nb::arg("first"), nb::arg("step"), nb::arg("rows"));
    module.def("instruction_sets", &instruction_sets);
    module.def("table_convolution", &table_convolution);
    module.def("edge_convolution", &edge_convolution);
    module.def("symmetric_contraction", &symmetric_contraction);
    nb::class_<MatrixPlan>(module, "MatrixPlan")
        .def(nb::init<std::int64_t, std::int64_t, const std::vector<std::array<std::int64_t, 9>>&,
                      const std::vector<double>&>(),
             nb::arg("width_in"), nb::arg("width_out"), nb::arg("blocks"), nb::arg("scales"));
    nb::class_<HarmonicTable>(module, "HarmonicTable")
        .def(nb::init<int, const std::vector<std::array<int, 3>>&, const std::vector<double>&>(), nb::arg("max_ell"),
             nb::arg("terms"), nb::arg("factors"));
    module.def("edge_harmonics", &edge_harmonics);
    nb::class_<RadialPlan>(module, "RadialPlan")
        .def("__init__", [](RadialPlan* plan, const std::vector<std::int64_t>& widths, const std::vector<double>& factors) {
            new (plan) RadialPlan{widths, factors};
        }, nb::arg("widths"), nb::arg("factors"));
    module.def("radial_table", &radial_table);
    module.def("lanes", &lanes);
    module.def("matrix_products", &matrix_products);
    module.def("matrix_gradients", &matrix_gradients);
    module.def("matrix_chains", &matrix_chains);
    bind_engine(module);
    bind_layers(module);
}
