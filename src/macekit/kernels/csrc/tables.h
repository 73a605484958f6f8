// The coupling structures and the orders of edges and atoms, as the extension module owns them.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "arguments.h"

namespace macekit {

// A sparse matrix in both precisions.
class SparseMatrix {
   public:
    SparseMatrix(int rows, const std::vector<int>& row, const std::vector<int>& column,
                 const std::vector<double>& value);
    template <class T>
    Sparse<T> view() const;

   private:
    std::vector<int> row_, start_, column_;
    std::vector<double> double_;
    std::vector<float> single_;
};

// A coupling of the edge convolution; see `kernels/structure.py` for its meaning.
class ConvolutionTable {
   public:
    // Paths are given by their l_in, l_sh and first row of the input; the coupling by its entries
    // (component of the harmonics, row of the output, column), where a column is a path with a component of the input.
    ConvolutionTable(int max_ell, int dim_in, int dim_out, const std::vector<int>& l_in, const std::vector<int>& l_sh,
                     const std::vector<int>& first_input, const std::vector<int>& harmonic, const std::vector<int>& row,
                     const std::vector<int>& column, const std::vector<double>& value);
    template <class T>
    ConvolutionStructure<T> view() const;

   private:
    int max_ell_, dim_in_, dim_out_, num_products_;
    std::vector<Path> paths_;
    std::vector<int> degree_start_;
    std::vector<SenderDegree> degrees_;
    std::vector<int> path_order_;
    std::vector<SparseMatrix> terms_;  // rows out of products, and the transpose
};

// Terms of the symmetric contraction as products of variables; see `kernels/factored_terms.py`.
class ContractionTable {
   public:
    using Index = std::uint32_t;
    // Rows are (output, two variables), columns two variables, entries (row, column, term), all ascending.
    ContractionTable(int dim_in, int dim_out, const std::vector<std::array<Index, 3>>& rows,
                     const std::vector<std::array<Index, 2>>& columns,
                     const std::vector<std::array<Index, 3>>& entries);
    ContractionStructure view() const;

   private:
    int dim_in_, dim_out_;
    std::vector<int> output_start_, row_start_, column_start_, share_start_;
    std::vector<Factors> row_factors_, column_factors_;
    std::vector<Index> entry_column_, entry_term_;
    std::vector<Entry> by_column_;
    std::vector<Share> shares_;
};

// The recursion of the spherical harmonics; see `kernels/cpu_harmonics.py`.
class HarmonicTable {
   public:
    // Terms (row, first, second) in the order of rows, and their factors.
    HarmonicTable(int max_ell, const std::vector<std::array<int, 3>>& terms, const std::vector<double>& factors);
    HarmonicStructure view() const;

   private:
    int max_ell_;
    std::vector<HarmonicTerm> terms_;
};

// Positions sorted by group, stable: those of group g are start[g] ... start[g + 1].
struct Grouping {
    std::vector<std::int64_t> start, position;
    // Throws std::out_of_range where a group is not in 0 ... groups - 1.
    Grouping(const std::int64_t* group, std::int64_t count, std::int64_t groups, const char* what);
};

}  // namespace macekit
