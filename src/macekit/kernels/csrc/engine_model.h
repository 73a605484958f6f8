// The engine as the extension module owns it: a folded model, packed for the registers of one instruction set.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#include "engine.h"

namespace macekit {

// Numbers given by the caller: a row-major array.
struct Numbers {
    const double* data;
    std::int64_t size;
};

// The atoms and edges of a batch as the caller has it; indices are checked when it is sorted.
struct EngineBatch {
    std::int64_t atoms, edges, graphs;
    const std::int64_t* element;    // [atoms]
    const std::int64_t* graph;      // [atoms]
    const std::int64_t *sender, *receiver;  // [edges]
    const double* shifts;           // [edges, 3], or null: nothing is periodic
};

class SortedSystem;

// Where the atoms of a batch are, in the caller's order.
struct Placement {
    const double* positions;  // [atoms, 3]
    const double* cell;       // [graphs, 3, 3]
};

// A sparse matrix by its entries.
struct Entries {
    int rows;
    std::vector<int> row, column;
    std::vector<double> value;
};

// Trees of monomials, see `kernels/monomial_tree.py`.
struct Trees {
    std::vector<int> factor, term, first, end;
};

struct LayerShape {
    int width;                 // channels of what is sent
    std::vector<int> degrees;  // of what is sent
    int max_ell;               // of harmonics and messages, at most the model's
    int num_paths, dim_out, dim_basis, num_terms;
    Trees polynomials, gradient;
};

struct ReadoutShape {
    int hidden, outputs, activation;
    double norm;
};

// Everything is float64 and unpadded as it comes; the arrays' shapes are in `kernels/engine.py`.
class Engine {
   public:
    virtual ~Engine() = default;
    virtual int piece_degree() const = 0;
    virtual void add_layer(const LayerShape& shape, Numbers table, const Entries& couple, Numbers constant,
                           Numbers density, Numbers coefficients) = 0;
    virtual void add_mixing(int layer, int degree, int first_row, int paths, Numbers matrices) = 0;
    virtual void add_source(int layer, int from, int degree, int row_from, int row_to, Numbers matrices) = 0;
    virtual void set_moments(int hidden, Numbers table, const std::vector<Numbers>& matrices) = 0;
    virtual void set_readout(const ReadoutShape& shape, Numbers constant, Numbers middle, Numbers middle_bias,
                             Numbers last, Numbers last_bias, Numbers scale, Numbers offset, Numbers seed) = 0;
    virtual void add_reading(int from, Numbers matrices) = 0;
    virtual void set_repulsion(int power, int column, Numbers weights, Numbers decays, Numbers strength,
                               Numbers inverse, Numbers reach) = 0;
    virtual int num_elements() const = 0;
    // first_layer: 0 chosen by cost, 1 moments, 2 messages. Returns the shortest distance within the cutoff.
    virtual double evaluate(SortedSystem& system, const Placement& placement, const EngineResults& results,
                            int first_layer, int threads) = 0;
};

struct EngineShape {
    int max_ell, channels, num_elements, knots;
    double cutoff;
    std::vector<int> pair;  // [element · element]
};

// std::invalid_argument for an instruction set that this processor does not have.
std::unique_ptr<Engine> make_engine(const std::string& instruction_set, bool double_precision, const EngineShape& shape,
                                    const Entries& raising);

}  // namespace macekit
