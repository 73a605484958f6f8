#include "engine_module.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "engine_model.h"
#include "engine_system.h"

namespace nb = nanobind;

namespace macekit {
namespace {

using Array = nb::ndarray<const double, nb::c_contig, nb::device::cpu>;
using Result = nb::ndarray<double, nb::c_contig, nb::device::cpu>;
using Indices = nb::ndarray<const std::int64_t, nb::c_contig, nb::device::cpu>;
using Ints = std::vector<int>;
using Forest = std::tuple<Ints, Ints, Ints, Ints>;  // factor, term, first, end

Trees trees(const Forest& forest) {
    return {std::get<0>(forest), std::get<1>(forest), std::get<2>(forest), std::get<3>(forest)};
}
Numbers numbers(const Array& array) { return {array.data(), static_cast<std::int64_t>(array.size())}; }

void check(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(std::string("engine: ") + what + " has the wrong shape");
}

std::int64_t size(const Array& array) { return static_cast<std::int64_t>(array.size()); }

std::unique_ptr<SortedSystem> sort(const Engine& engine, const Indices& element, const Indices& graph, int graphs,
                                   const Indices& edge_index, const Array& shifts, bool periodic) {
    const std::int64_t N = static_cast<std::int64_t>(element.size()), E = static_cast<std::int64_t>(edge_index.size()) / 2;
    check(static_cast<std::int64_t>(graph.size()) == N, "what tells the structures of the atoms");
    check(size(shifts) == 3 * E, "the shifts");
    const EngineBatch batch = {N, E, graphs, element.data(), graph.data(), edge_index.data(), edge_index.data() + E,
                               periodic ? shifts.data() : nullptr};
    return std::make_unique<SortedSystem>(batch, engine.num_elements());
}

double evaluate(Engine& engine, SortedSystem& system, int num_outputs, const Array& positions, const Array& cell,
                const Result& energies, const Result& forces, const Result& virial, const Result& seconds,
                int first_layer, int threads) {
    const std::int64_t N = system.atoms(), G = system.graphs();
    const auto count = [](const Result& array) { return static_cast<std::int64_t>(array.size()); };
    check(system.num_elements() == engine.num_elements(), "the system, which was sorted for another engine,");
    check(size(positions) == 3 * N && size(cell) == 9 * G, "the positions");
    check(count(energies) == N * num_outputs && count(forces) == 3 * N && count(virial) == 9 * G, "a result");
    const EngineResults results = {energies.data(), forces.data(), virial.data(),
                                   count(seconds) == 16 ? seconds.data() : nullptr};
    const nb::gil_scoped_release without_gil;
    return engine.evaluate(system, {positions.data(), cell.data()}, results, first_layer, threads);
}

}  // namespace

void bind_engine(nb::module_& module) {
    nb::class_<SortedSystem>(module, "SortedSystem");
    nb::class_<Engine>(module, "Engine")
        .def("piece_degree", &Engine::piece_degree)
        .def("add_layer",
             [](Engine& engine, int width, Ints degrees, int max_ell, int num_paths, int dim_out, int dim_basis,
                int num_terms, Forest polynomials, Forest gradient, Array table, Ints row, Ints product,
                std::vector<double> value, Array constant, Array density, Array coefficients) {
                 engine.add_layer({width, degrees, max_ell, num_paths, dim_out, dim_basis, num_terms,
                                   trees(polynomials), trees(gradient)},
                                  numbers(table), {dim_out, row, product, value}, numbers(constant), numbers(density),
                                  numbers(coefficients));
             })
        .def("add_mixing",
             [](Engine& engine, int layer, int degree, int first_row, int paths, Array matrices) {
                 engine.add_mixing(layer, degree, first_row, paths, numbers(matrices));
             })
        .def("add_source",
             [](Engine& engine, int layer, int from, int degree, int row_from, int row_to, Array matrices) {
                 engine.add_source(layer, from, degree, row_from, row_to, numbers(matrices));
             })
        .def("set_moments",
             [](Engine& engine, int hidden, Array table, std::vector<Array> matrices) {
                 std::vector<Numbers> found;
                 for (const Array& matrix : matrices) found.push_back(numbers(matrix));
                 engine.set_moments(hidden, numbers(table), found);
             })
        .def("set_readout",
             [](Engine& engine, int hidden, int outputs, int activation, double norm, Array constant, Array middle,
                Array middle_bias, Array last, Array last_bias, Array scale, Array offset, Array seed) {
                 engine.set_readout({hidden, outputs, activation, norm}, numbers(constant), numbers(middle),
                                    numbers(middle_bias), numbers(last), numbers(last_bias), numbers(scale),
                                    numbers(offset), numbers(seed));
             })
        .def("add_reading",
             [](Engine& engine, int from, Array matrices) { engine.add_reading(from, numbers(matrices)); })
        .def("set_repulsion",
             [](Engine& engine, int power, int column, Array weights, Array decays, Array strength, Array inverse,
                Array reach) {
                 engine.set_repulsion(power, column, numbers(weights), numbers(decays), numbers(strength),
                                      numbers(inverse), numbers(reach));
             })
        .def("sort", &sort)
        .def("evaluate", &evaluate);
    module.def("make_engine", [](const std::string& instruction_set, bool double_precision, int max_ell, int channels,
                                 int num_elements, int knots, double cutoff, Ints pair, int rows, Ints row, Ints column,
                                 std::vector<double> value) {
        return make_engine(instruction_set, double_precision, {max_ell, channels, num_elements, knots, cutoff, pair},
                           {rows, row, column, value});
    });
}

}  // namespace macekit
