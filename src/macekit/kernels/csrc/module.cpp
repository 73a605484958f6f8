// The extension module: pointers and sizes from Python to the kernels. `kernels/cpu.py` is its only caller and checks
// shapes, precisions and memory layout; indices are checked here.
#include <nanobind/nanobind.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>

#include "engine_module.h"
#include "instruction_sets.h"
#include "tables.h"

namespace nb = nanobind;

namespace macekit {
namespace {

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

// How to run: instruction set, whether numbers are float64, number of threads.
struct Run {
    std::string instruction_set;
    bool twice;
    int threads;
};

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
    const std::int64_t* senders = at<const std::int64_t>(sender);
    const Grouping grouping(at<const std::int64_t>(receiver), count, atoms, "receiver");
    std::vector<std::int64_t> sorted_senders(count);
    for (std::int64_t n = 0; n < count; ++n) {
        const std::int64_t j = senders[grouping.position[n]];
        if (j < 0 || j >= atoms)
            throw std::out_of_range("sender " + std::to_string(j) + " is not in 0 ... " + std::to_string(atoms - 1));
        sorted_senders[n] = j;
    }
    const Edges edges = {atoms, count, grouping.start.data(), grouping.position.data(), sorted_senders.data()};
    if (run.twice)
        convolve<double>(table, run, pass, edges, channels, addresses);
    else
        convolve<float>(table, run, pass, edges, channels, addresses);
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

}  // namespace
}  // namespace macekit

NB_MODULE(_core, module) {
    using namespace macekit;
    using Ints = const std::vector<int>&;
    nb::class_<ConvolutionTable>(module, "ConvolutionTable")
        .def(nb::init<int, int, int, Ints, Ints, Ints, Ints, Ints, Ints, const std::vector<double>&>(),
             nb::arg("max_ell"), nb::arg("dim_in"), nb::arg("dim_out"), nb::arg("l_in"), nb::arg("l_sh"),
             nb::arg("first_input"), nb::arg("harmonic"), nb::arg("row"), nb::arg("column"), nb::arg("value"));
    nb::class_<ContractionTable>(module, "ContractionTable")
        .def(nb::init<int, int, int, int, Ints, Ints, Ints, Ints>(), nb::arg("dim_in"), nb::arg("dim_out"),
             nb::arg("num_terms"), nb::arg("order"), nb::arg("factor"), nb::arg("term"), nb::arg("first"),
             nb::arg("end"));
    nb::class_<Run>(module, "Run")
        .def("__init__",
             [](Run* run, const std::string& instruction_set, bool twice, int threads) {
                 new (run) Run{instruction_set, twice, threads};
             },
             nb::arg("instruction_set"), nb::arg("double_precision"), nb::arg("threads"));
    module.def("instruction_sets", &instruction_sets);
    module.def("edge_convolution", &edge_convolution);
    module.def("symmetric_contraction", &symmetric_contraction);
    bind_engine(module);
}
