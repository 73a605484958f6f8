// What the kernels are given: plain pointers and sizes. Nothing here owns memory.
#pragma once

#include <cstdint>

namespace macekit {

constexpr int kHighestDegree = 4;  // of features and harmonics

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

constexpr int kSplineRows = 4;                   // rows of the table that an edge sees
constexpr int kSplineNumbers = 4 * kSplineRows;  // of one edge: weights, their derivative, and both times the tangent

// An edge in the order of receivers: where its sender's features and its rows of the table begin when packed.
struct PackedEdge {
    std::int32_t atom, row;
};

// Edges as the sweeps with a table take them, in the order of receivers; with `dy` along tangents of harmonics and
// distances. The caller's memory, for a table of so many rows.
template <class T>
struct OpenedEdges {
    PackedEdge* edges;  // [E]
    T *splines, *y, *dy;  // [E, kSplineNumbers], [E, harmonics] and the same
    char* used;  // [rows], whether an edge sees it
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
    const OpenedEdges<T>* opened;  // null: a pass opens the edges itself
};

// A product of two variables x = (1, a_1 ... a_D).
struct Factors {
    std::uint32_t first, second;
};

// An entry of a row of the sparse matrix of the contraction, as a column sees it.
struct Entry {
    std::uint32_t row, entry;
};

// A summand of the gradient by a variable: number of a row, or of rows + a column, times a variable.
struct Share {
    std::uint32_t product, variable;
};

// The output M is Σ_rows x_first x_second Σ_columns c x_first x_second over the rows output_start[M] ... There are as
// many entries, which are the numbers c, as terms: those of row r are row_start[r] ..., each with its column and the
// term whose coefficient it is; those of column k are by_column[column_start[k]] ... The gradient by component d has
// the shares share_start[d] ...
struct ContractionStructure {
    int dim_in, dim_out, num_terms, rows, columns;
    const int* output_start;
    const Factors* row_factors;
    const int* row_start;
    const Factors* column_factors;
    const int* column_start;
    const std::uint32_t* entry_column;
    const std::uint32_t* entry_term;
    const Entry* by_column;
    const int* share_start;
    const Share* shares;
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

// One matrix [rows, inner] and several [inner, columns], whose columns are whole registers. In the backward pass the
// product is the gradient by it; a gradient that is null is not asked for, and that by the one takes whole registers of
// `inner`.
template <class T>
struct MatrixChain {
    std::int64_t rows, inner, columns, several;
    const T *one, *two;
    T* product;  // [several, rows, columns]
    T *to_one, *to_two;
};

// A term of the recursion of the spherical harmonics: factor Y_first Y_second, which is added to Y_row.
struct HarmonicTerm {
    int row, first, second;
    double factor;
};

// Terms in the order of rows, for degrees from 2 on.
struct HarmonicStructure {
    int max_ell, count;
    const HarmonicTerm* terms;
    int width() const { return (max_ell + 1) * (max_ell + 1); }
};

// Pointers to numbers of edges: vectors [E, 3], lengths [E], harmonics [E, (max_ell + 1)²].
template <class T>
struct EdgeNumbers {
    double *vectors, *lengths;
    T* harmonics;
};

// A multilayer perceptron at the knots of a table, with splines through its values: basis [knots, widths[0]], matrices
// [widths[n], widths[n + 1]] that are multiplied by factors. Widths but the first are whole registers.
template <class T>
struct RadialArguments {
    std::int64_t knots;
    int depth;  // number of matrices, at least 2
    const std::int64_t* widths;
    const double* factors;
    const T *basis, *envelope;  // [knots], of the last hidden layer; null: it is one
    const T* const* matrices;
    T* const* inner;  // numbers before the activation of every hidden layer [knots, width]; the forward makes them
    T* filtered;      // coefficients of the last hidden layer [knots + 2, width], likewise
};

// Read-outs of the scalars of some layers, Σ_l x_l V_l + f(x W₁) W₂ with f(z) = norm z/(1 + exp(-z)), the last by the MLP.
// Matrices are divided by the square root of their fan-in. Scalars are the first numbers of an atom's features.
template <class T>
struct ReadoutArguments {
    std::int64_t atoms, layers, channels, units, targets;
    const std::int64_t* widths;  // features of an atom, of every layer
    double norm;
    const T* const* features;  // of every layer [atoms, width]
    const T* const* matrices;  // of every layer but the last [channels, targets], [channels, units], [units, targets]
};

// Adjoints of the reverse by the geometry and the tangents after it; the adjoints are null where there were none.
template <class T>
struct ReadoutTangents {
    const T* adjoint;            // by the output [atoms, targets]
    const T* const* features;    // of every layer; null: zero
    const T* z;                  // before the activation [atoms, units]
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
    void (*open)(const ConvolutionStructure<T>&, const Edges&, const TableArguments<T>&, const OpenedEdges<T>&, int threads);
};

template <class T>
struct ContractionKernels {
    using Kernel = void (*)(const ContractionStructure&, const Species&, const ContractionArguments<T>&, int threads);
    Kernel passes[3];
};

// y = s x W, x = s y Wᵀ, and W = s Σ xᵀ y over some pairs of features; products of matrices, and their gradients.
template <class T>
struct MatrixKernels {
    void (*apply)(const MatrixArguments<T>&, const T* in, T* out, bool transposed, int threads);
    void (*outer)(const MatrixArguments<T>&, const T* const* x, const T* const* y, int pairs, int threads);
    void (*chain)(const MatrixChain<T>*, std::int64_t count, int threads);
    void (*chain_backward)(const MatrixChain<T>*, std::int64_t count, int threads);
    int lanes;
};

// Of vectors [E, 3]: lengths and harmonics; gradients by the vectors out of those by lengths and harmonics; tangents of
// lengths and harmonics out of those of the vectors.
template <class T>
struct HarmonicKernels {
    using Kernel = void (*)(const HarmonicStructure&, std::int64_t edges, const double* vectors, double shortest,
                            const EdgeNumbers<T>&, int threads);
    Kernel passes[3];
};

// The table [knots + 2, outputs], and gradients of the matrices out of that by the table.
template <class T>
struct RadialKernels {
    void (*forward)(const RadialArguments<T>&, T* table, int threads);
    void (*backward)(const RadialArguments<T>&, const T* grad, T* const* gradients, int threads);
};

// Of every atom: numbers before the activation z [atoms, units] and the output [atoms, targets]; gradients by the features;
// tangents of z and of the output; gradients by features and by the matrices, null where they are not wanted.
template <class T>
struct ReadoutKernels {
    using Arguments = ReadoutArguments<T>;
    void (*values)(const Arguments&, T* z, T* out);
    void (*geometry)(const Arguments&, const T* z, const T* grad, T* const* to_features);
    void (*tangents)(const Arguments&, const T* z, const T* const* features, T* d_z, T* out);
    void (*weights)(const Arguments&, const T* z, const T* grad, const ReadoutTangents<T>&, T* const* to_features,
                    T* const* gradients);
};

}  // namespace macekit
