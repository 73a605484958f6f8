#include "layer_module.h"

#include <nanobind/stl/array.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include "layer_sweeps.h"

namespace nb = nanobind;

namespace macekit {
namespace {

using Matrices = std::vector<std::vector<Address>>;
using Plan = const MatrixPlan*;

std::unique_ptr<LayerSweeps> layer_sweeps(const ConvolutionTable& convolution, const ContractionTable& contraction, Plan up,
                                          Plan linear, Plan mix, Plan product, Plan residual, const Run& run,
                                          const Effort& effort, const std::array<std::int64_t, 3>& sizes, const Knots& knots,
                                          Address sender, Address receiver, Address species) {
    const nb::gil_scoped_release without_gil;
    return make_layer_sweeps({{up, linear, mix, product, residual}, &convolution, &contraction}, run, effort,
                             {sizes[0], sizes[1], sizes[2]}, knots, sender, receiver, species);
}

}  // namespace

void bind_layers(nb::module_& module) {
    const auto without_gil = nb::call_guard<nb::gil_scoped_release>();
    nb::class_<Effort>(module, "Effort")
        .def("__init__", [](Effort* effort, int threads, double per_thread, const std::array<double, 3>& of_term,
                            double of_edge) { new (effort) Effort{threads, per_thread, of_term, of_edge}; },
             nb::arg("threads"), nb::arg("per_thread"), nb::arg("of_term"), nb::arg("of_edge"));
    nb::class_<LayerSweeps>(module, "LayerSweeps")
        .def("values", &LayerSweeps::values, without_gil)
        .def("geometry", &LayerSweeps::geometry, without_gil)
        .def("tangents", &LayerSweeps::tangents, without_gil)
        .def("weights", &LayerSweeps::weights, without_gil);
    module.def("layer_sweeps", &layer_sweeps, nb::arg("convolution"), nb::arg("contraction"), nb::arg("up"),
               nb::arg("linear"), nb::arg("mix").none(), nb::arg("product"), nb::arg("residual").none(), nb::arg("run"),
               nb::arg("effort"), nb::arg("sizes"), nb::arg("knots"), nb::arg("sender"), nb::arg("receiver"),
               nb::arg("species"), nb::keep_alive<0, 1>(), nb::keep_alive<0, 2>(), nb::keep_alive<0, 3>(),
               nb::keep_alive<0, 4>(), nb::keep_alive<0, 5>(), nb::keep_alive<0, 6>(), nb::keep_alive<0, 7>());
}

}  // namespace macekit
