// What the kernels are given: plain pointers and sizes. Nothing here owns memory.
#pragma once

#include <cstdint>

namespace macekit {

// A sparse matrix by rows, those with the fewest entries first, so that processors predict the lengths of loops:
// the n-th is row[n] with the entries start[n] ... start[n + 1].
template <class T>
struct Sparse {
    int rows;
    const int* row;
    const int* start;
    const int* column;
    const T* value;
};

// A coupling of the edge convolution. A product is one component of the sender times one of the harmonics.
struct Path {
    int index;          // position of its radial function
    int degree;         // l of the harmonics
    int first_input;    // row of the sender's features
    int inputs;         // 2 l_in + 1
    int first_product;  // products are ordered (component of the sender, component of the harmonics)
};

// The sender's features of one degree: their first row, their first path among those by the order of `path_order`, and
// the first of their products.
struct SenderDegree {
    int degree, first_input, first_path, first_product;
};

template <class T>
struct ConvolutionStructure {
    int dim_in, dim_out, num_paths, max_ell, num_products, num_degrees;
    const Path* paths;        // by ascending degree of the harmonics
    const int* degree_start;  // paths of degree l are degree_start[l] ... degree_start[l + 1]
    Sparse<T> row_terms;      // rows of the output out of products
    Sparse<T> product_terms;  // the transpose
    const SenderDegree* degrees;
    const int* path_order;  // positions of radial functions by ascending degree of the sender, harmonics and output
    int harmonics() const { return (max_ell + 1) * (max_ell + 1); }
};

// Edges in the order of their receivers: those of receiver i are start[i] ... start[i + 1].
struct Edges {
    std::int64_t atoms, count;
    const std::int64_t* start;
    const std::int64_t* edge;    // position in the caller's order
    const std::int64_t* sender;
};

// h [N, D_in, K], y [E, L], radial [E, P, K], grad and out [N, D_out, K]. Tangents may be null, which is zero.
template <class T>
struct ConvolutionArguments {
    std::int64_t channels;
    const T *h, *y, *radial, *grad;
    const T *tangent_h, *tangent_y, *tangent_radial;
    T *out, *to_h, *to_y, *to_radial;  // to_h comes as zeros, the others uninitialised
};

// The convolution with radial functions out of a table [rows, P, K] of coefficients of cubic B-splines: the first knot
// is at `first`, and an edge between knots g and g + 1 sees rows g ... g + 3. Distances and their tangents and
// gradients are in double precision. Null: tangents that are zero, gradients that are not asked for (to_y and
// to_lengths go together).
template <class T>
struct TableArguments {
    std::int64_t channels, rows;
    double first, step;
    const T *h, *y;
    const double* lengths;
    const T *table, *grad;
    const T *tangent_h, *tangent_y;
    const double* tangent_lengths;
    const T* tangent_grad;  // the gradient by the tangent of the output, where that by the output is `grad`
    T *out, *to_h, *to_y;
    double* to_lengths;
    T* to_table;  // all uninitialised
};

// Terms of one output of the contraction with the factors x[first] x[second] in common: pairs begin ... end. The
// variables are x = (1, a_1 ... a_D).
struct Group {
    int first, second;
    int begin, end;
};

// Terms of a group with the factor x[variable] in common: entries begin ... end.
struct Pair {
    int variable;
    int begin, end;
};

// A term: its coefficient times the factors of its group and pair times x[variable].
struct Entry {
    int variable;
    int term;
};

// The groups of output M are output_start[M] ... output_start[M + 1]. There are as many entries as terms.
struct ContractionStructure {
    int dim_in, dim_out, num_terms;
    const int* output_start;
    const Group* groups;
    const Pair* pairs;
    const Entry* entries;
    int variables() const { return 1 + dim_in; }
};

// Atoms sorted by species: those of species s are start[s] ... start[s + 1] in `atom`.
struct Species {
    std::int64_t atoms, count;
    const std::int64_t* start;
    const std::int64_t* atom;
};

// a [N, D, K], coefficients [S, T, K], grad and out [N, M, K]. Tangents may be null, which is zero.
template <class T>
struct ContractionArguments {
    std::int64_t channels;
    const T *a, *coefficients, *grad;
    const T *tangent_a, *tangent_coefficients;
    T *out, *to_a, *to_coefficients;  // all uninitialised; the backward can do without to_coefficients
};

// Features of the atoms begin ... end times one matrix [fan_in, fan_out], for each of some components: those of component
// m of an atom begin at first_in + m fan_in in its row of the input, and likewise in that of the output.
template <class T>
struct MatrixBlock {
    std::int64_t begin, end, first_in, fan_in, first_out, fan_out, components;
    double scale;
    T* matrix;
};

// x [N, width_in], y [N, width_out]. Channels fill whole registers.
template <class T>
struct MatrixArguments {
    std::int64_t width_in, width_out;
    const MatrixBlock<T>* blocks;
    std::int64_t count;
};

// The kernels of one instruction set and precision: forward, backward, second backward.
template <class T>
struct ConvolutionKernels {
    using Kernel = void (*)(const ConvolutionStructure<T>&, const Edges&, const ConvolutionArguments<T>&, int threads);
    Kernel passes[3];
};

template <class T>
struct TableKernels {
    using Kernel = void (*)(const ConvolutionStructure<T>&, const Edges&, const TableArguments<T>&, int threads);
    Kernel passes[5];  // and the tangent of the forward, and gradients of both by the weights
};

template <class T>
struct ContractionKernels {
    using Kernel = void (*)(const ContractionStructure&, const Species&, const ContractionArguments<T>&, int threads);
    Kernel passes[3];
};

// y = s x W, x = s y Wᵀ, and W = s Σ xᵀ y over some pairs of features.
template <class T>
struct MatrixKernels {
    void (*apply)(const MatrixArguments<T>&, const T* in, T* out, bool transposed, int threads);
    void (*outer)(const MatrixArguments<T>&, const T* const* x, const T* const* y, int pairs, int threads);
    int lanes;
};

}  // namespace macekit
