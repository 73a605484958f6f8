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

using Widths = std::vector<std::int64_t>;

// The read-outs of scalars, for calls of their sweeps. Addresses of everything stay where they are.
class Readouts {
   public:
    Readouts(const Run& run, double norm, const std::array<std::int64_t, 4>& sizes, const Widths& widths,
             const std::vector<Address>& features, const std::vector<Address>& matrices)
        : run_(run), norm_(norm), sizes_(sizes), widths_(widths), features_(features), matrices_(matrices) {}

    void values(Address z, Address out) {
        z_ = z;
        with([&](auto kernels, const auto& arguments, auto number) {
            using T = decltype(number);
            kernels.values(arguments, at<T>(z), at<T>(out));
        });
    }
    void geometry(Address grad, const std::vector<Address>& to_features) {
        adjoint_ = grad;
        with([&](auto kernels, const auto& arguments, auto number) {
            using T = decltype(number);
            kernels.geometry(arguments, at<T>(z_), at<T>(grad), pointers<T>(to_features).data());
        });
    }
    void tangents(const std::vector<Address>& features, Address d_z, Address out) {
        moved_ = features, d_z_ = d_z;
        with([&](auto kernels, const auto& arguments, auto number) {
            using T = decltype(number);
            kernels.tangents(arguments, at<T>(z_), pointers<const T>(features).data(), at<T>(d_z), at<T>(out));
        });
    }
    void weights(Address grad, const std::vector<Address>& to_features, const std::vector<Address>& gradients) {
        with([&](auto kernels, const auto& arguments, auto number) {
            using T = decltype(number);
            const auto moved = pointers<const T>(moved_);
            const ReadoutTangents<T> tangents = {moved_.empty() ? nullptr : at<T>(adjoint_), moved.data(), at<T>(d_z_)};
            kernels.weights(arguments, at<T>(z_), at<T>(grad), tangents, pointers<T>(to_features).data(),
                            pointers<T>(gradients).data());
        });
    }

   private:
    template <class Body>
    void with(const Body& body) const {
        in_precision(run_, [&](auto number) {
            using T = decltype(number);
            const auto features = pointers<const T>(features_), matrices = pointers<const T>(matrices_);
            const auto& [atoms, channels, units, targets] = sizes_;
            body(readout_kernels_for<T>(run_.instruction_set),
                 ReadoutArguments<T>{atoms, static_cast<std::int64_t>(widths_.size()), channels, units, targets,
                                     widths_.data(), norm_, features.data(), matrices.data()}, number);
        });
    }

    const Run run_;
    const double norm_;
    const std::array<std::int64_t, 4> sizes_;
    const Widths widths_;
    const std::vector<Address> features_, matrices_;
    std::vector<Address> moved_;  // tangents of the features
    Address z_ = 0, adjoint_ = 0, d_z_ = 0;
};

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
    nb::class_<Readouts>(module, "Readouts")
        .def(nb::init<const Run&, double, const std::array<std::int64_t, 4>&, const Widths&, const std::vector<Address>&,
                      const std::vector<Address>&>(),
             nb::arg("run"), nb::arg("norm"), nb::arg("sizes"), nb::arg("widths"), nb::arg("features"), nb::arg("matrices"))
        .def("values", &Readouts::values, without_gil)
        .def("geometry", &Readouts::geometry, without_gil)
        .def("tangents", &Readouts::tangents, without_gil)
        .def("weights", &Readouts::weights, without_gil);
}

}  // namespace macekit
