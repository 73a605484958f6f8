// The four sweeps of training through one layer of message passing, each in one call; see `model/scheduling.py`, and
// `model/scheduled_layer.py`, which does the same with a call for every kernel.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "instruction_sets.h"
#include "module_arguments.h"
#include "workspace.h"

namespace macekit {

// The linear maps of a layer, in the order in which Python counts them.
enum Map { kUp, kLinear, kMix, kProduct, kResidual, kMaps };

// What a layer is made of. Mix and residual may be null. Python keeps what is pointed to.
struct LayerParts {
    std::array<const MatrixPlan*, kMaps> plans;
    const ConvolutionTable* convolution;
    const ContractionTable* contraction;
};

// How many threads: as many as there are, each with so much work at least.
struct Effort {
    int threads;
    double per_thread;
    std::array<double, 3> of_term;  // of the passes of the contraction
    double of_edge;                 // and channel and row of the convolution
    int threads_for(double work) const {
        const double worth = work / per_thread;
        return worth < 1.0 ? 1 : worth < threads ? static_cast<int>(worth) : threads;
    }
};

struct LayerSizes {
    std::int64_t atoms, edges, species;
};

// Sweeps come in the order values, geometry, tangents, weights; after the values others can be left out, but tangents
// come after geometry. Numbers are float or double as `Run` says; lengths and their gradients are double.
class LayerSweeps {
   public:
    virtual ~LayerSweeps() = default;
    // given: features, harmonics, lengths, table, coefficients, which stay where they are for all sweeps.
    virtual void values(const std::array<Address, 5>& given, const std::vector<std::vector<Address>>& matrices,
                        Address out) = 0;
    // grad, which stays too; results by features, harmonics, lengths.
    virtual void geometry(Address grad, const std::array<Address, 3>& results) = 0;
    // Tangents of features (0: none), harmonics, lengths (0: none), which stay too.
    virtual void tangents(const std::array<Address, 3>& given, Address out) = 0;
    // grad, 0: none. Results by features, table, coefficients, and by the matrices of every map that has some here.
    virtual void weights(Address grad, const std::array<Address, 3>& results,
                         const std::vector<std::vector<Address>>& gradients) = 0;
};

// Indices are checked: std::out_of_range.
std::unique_ptr<LayerSweeps> make_layer_sweeps(const LayerParts& parts, const Run& run, const Effort& effort,
                                               const LayerSizes& sizes, const Knots& knots, Address sender,
                                               Address receiver, Address species);

}  // namespace macekit
