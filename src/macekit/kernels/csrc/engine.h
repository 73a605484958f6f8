// The inference engine as its kernels see it: a folded model, sorted atoms and edges, results. Nothing here owns memory.
//
// Features are [block of channels][atom][component][lane]; a block fills one register, and channels are padded with
// zeros to whole blocks. Atoms are sorted by element. `outputs/compiled.py` says what the numbers mean.
#pragma once

#include <cstddef>
#include <cstdint>

namespace macekit {

constexpr int kHighestInput = 3, kHighestEll = 4;

// Where the degrees of the sent features are, by degree: their first row, path and product.
struct Starts {
    int row[kHighestInput + 1], path[kHighestInput + 1], product[kHighestInput + 1];
};

// Degree of the polynomials that replace the radial functions between two knots.
template <class T>
constexpr int kPieceDegree = 4;
template <>
constexpr int kPieceDegree<double> = 8;

// y = x W for one degree, W [inner, outer] in registers of channels; one matrix, or one for each element.
template <class T>
struct EngineLinear {
    int inner, outer, variants;
    const T* forward;   // [variant][outer][inner · lanes][lane]
    const T* backward;  // the transpose: [variant][inner][outer · lanes][lane]
};

// A contribution to a layer's sent features, or to the read-out, from the polynomials of an earlier layer.
template <class T>
struct EngineSource {
    int layer, degree, row_from, row_to;
    EngineLinear<T> map;
};

// Rows of a sparse matrix: those of row r are start[r] ... start[r + 1].
template <class T>
struct EngineSparse {
    int rows;
    const int* start;
    const int* column;
    const T* value;
};

// Messages of one degree: components of A, and the map that mixes their paths.
template <class T>
struct EngineMixing {
    int degree, first_row, paths;
    EngineLinear<T> map;
};

template <class T>
struct EngineLayer {
    int blocks;               // of the sent features
    int num_degrees, dim_in;  // of the sent features
    const int* degrees;
    Starts starts;
    int num_paths, num_products, dim_out;
    const T* table;            // [block][pair · knot][path][piece coefficient][lane]
    EngineSparse<T> couple;    // rows of A out of products
    EngineSparse<T> uncouple;  // the transpose
    const T* constant;         // [block][element][lane]: scalars that are sent whatever the neighbours
    int num_sources;
    const EngineSource<T>* sources;
    int num_mixings;
    const EngineMixing<T>* mixings;
    const double* density;  // [pair · knot][piece coefficient], or null: messages are not divided by a density
    int max_ell;            // of the harmonics and messages
    int dim_basis;          // components of the polynomials
    int num_terms;
    const int *program, *gradient;  // see engine_contraction.h; variables of the gradient: atomic basis, then adjoints
    const T* coefficients;          // [block][element][term][lane]
};

// The first layer by moments: hidden units of the radial network are summed instead of messages.
template <class T>
struct EngineMoments {
    int blocks;                    // of hidden units; 0: not there
    const T* table;                // [block of hidden units][pair · knot][piece coefficient][lane]
    const EngineLinear<T>* maps;   // by degree: inner are the hidden units of every element
};

enum EngineActivation { kSilu, kTanh, kAbs, kNone };

// Scalars of the atoms: linear read-outs, and a perceptron on hidden units that are read in the same way.
template <class T>
struct EngineReadout {
    int blocks, hidden, outputs;  // columns: hidden units, then linear outputs
    int num_sources;
    const EngineSource<T>* sources;
    const double* constant;  // [element][hidden + outputs]
    int activation;
    double norm;
    const double *middle, *middle_bias;  // [hidden][hidden], [hidden]; null: one hidden layer
    const double *last, *last_bias;      // [hidden][outputs], [outputs]
    const double *scale, *offset;        // [outputs], [element][outputs]
    const double* seed;                  // [outputs]: what is differentiated
};

// Repulsion of pairs: strength / r Σ_k weight_k exp(-decay_k inverse r), enveloped at the reach of the pair.
struct EngineRepulsion {
    int power;               // of the envelope; 0: no repulsion
    const double* weights;   // [4]
    const double* decays;    // [4]
    const double* strength;  // [element · element]
    const double* inverse;
    const double* reach;
    int column;              // output that it is added to
};

template <class T>
struct EngineModel {
    int max_ell, blocks, num_elements, num_layers, num_pairs, knots;  // knots: number of intervals
    double cutoff;
    const int* pair;  // [receiver's element · sender's element]: which radial functions
    const EngineLayer<T>* layers;
    EngineMoments<T> moments;
    EngineReadout<T> readout;
    EngineRepulsion repulsion;
    EngineSparse<T> raising;  // rows: components of Y_2 ...; columns: component of Y_1 · 32 + component of Y_(l-1)
};

// Atoms sorted by element, edges by receiver and then by the sender's element.
struct EngineSystem {
    std::int64_t atoms, edges, graphs;
    const double* positions;            // [atoms, 3]
    const int* element;                 // [atoms]
    const std::int64_t* element_start;  // [elements + 1]
    const int* graph;                   // [atoms]
    const std::int64_t* order;          // position among the caller's atoms
    const std::int64_t* start;          // [atoms + 1]
    const int* sender;                  // [edges]
    const int* sender_element;          // [edges]
    const double* offset;               // [edges, 3], or null: nothing is periodic
};

// What the edges of some atoms need. Edges are counted from the first of them, atoms from the first atom.
template <class T>
struct EdgeBlock {
    const int* sender;        // row of h; all edges
    const int* row;           // row of the table
    const T* fraction;        // between knots, -1/2 ... 1/2
    const T* y;               // [edge][harmonics, padded]
    T* gradient;              // the same: by the fraction, then by the harmonics of degree 1 and more
    std::int64_t width;       // padded number of harmonics
    const T* table;           // of this block
    std::int64_t row_stride;  // of the table
    std::int64_t table_block; // distance of the tables of two blocks
    const T* h;               // of this block
    T* to_h;
    std::int64_t h_stride;
    T* products;              // of the atom
};

// The passes over the edges begin ... end of one atom, compiled for each highest degree of the harmonics.
template <class T>
struct EnginePasses {
    using Sum = void (*)(const EdgeBlock<T>&, std::int64_t begin, std::int64_t end, int first_path,
                         std::int64_t first_row, T* products);
    using Pull = void (*)(const EdgeBlock<T>&, std::int64_t begin, std::int64_t end, const Starts&);
    Sum (*sum)(int l_in);
    Pull (*pull)(int mask);  // degrees of the sent features, as bits
    void (*sum_moments)(const EdgeBlock<T>&, std::int64_t begin, std::int64_t end, int blocks, T* out,
                        std::int64_t stride);
    void (*pull_moments)(const EdgeBlock<T>&, std::int64_t begin, std::int64_t end, int blocks, const T* grad,
                         std::int64_t stride);
};

// The passes for a highest degree of the harmonics.
template <class T>
using EnginePassesOf = EnginePasses<T> (*)(int max_ell);

struct EngineResults {
    double* energies;  // [atoms, outputs], in the caller's order
    double* forces;    // [atoms, 3], in the caller's order
    double* virial;    // [graphs, 3, 3], dE/dε before it is made symmetric
    double* seconds;   // [16] of processor time of the first worker by stage, or null
};

// Memory that is kept between evaluations.
struct EngineMemory {
    char* data;
    std::size_t bytes;
};

template <class T>
using EngineEvaluate = void (*)(const EngineModel<T>&, const EngineSystem&, const EngineResults&, EngineMemory&,
                                bool by_moments, int threads);

template <class T>
struct EngineKernels {
    int lanes;
    EngineEvaluate<T> evaluate;
};

}  // namespace macekit
