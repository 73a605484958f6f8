#include "tables.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

namespace macekit {

SparseMatrix::SparseMatrix(int rows, const std::vector<int>& row, const std::vector<int>& column,
                           const std::vector<double>& value)
    : row_(rows), start_(1, 0) {
    std::vector<std::vector<std::size_t>> entries(rows);
    for (std::size_t entry = 0; entry < row.size(); ++entry) entries[row[entry]].push_back(entry);
    std::iota(row_.begin(), row_.end(), 0);
    std::stable_sort(row_.begin(), row_.end(), [&](int x, int y) { return entries[x].size() < entries[y].size(); });
    for (const int r : row_) {
        for (const std::size_t entry : entries[r]) {
            column_.push_back(column[entry]);
            double_.push_back(value[entry]);
            single_.push_back(static_cast<float>(value[entry]));
        }
        start_.push_back(static_cast<int>(column_.size()));
    }
}

template <>
Sparse<double> SparseMatrix::view() const {
    return {static_cast<int>(row_.size()), row_.data(), start_.data(), column_.data(), double_.data()};
}

template <>
Sparse<float> SparseMatrix::view() const {
    return {static_cast<int>(row_.size()), row_.data(), start_.data(), column_.data(), single_.data()};
}

ConvolutionTable::ConvolutionTable(int max_ell, int dim_in, int dim_out, const std::vector<int>& l_in,
                                   const std::vector<int>& l_sh, const std::vector<int>& first_input,
                                   const std::vector<int>& harmonic, const std::vector<int>& row,
                                   const std::vector<int>& column, const std::vector<double>& value)
    : max_ell_(max_ell), dim_in_(dim_in), dim_out_(dim_out), num_products_(0), degree_start_(max_ell + 2, 0) {
    path_order_.resize(l_in.size());
    std::iota(path_order_.begin(), path_order_.end(), 0);
    std::stable_sort(path_order_.begin(), path_order_.end(),
                     [&](int x, int y) { return std::pair(l_in[x], l_sh[x]) < std::pair(l_in[y], l_sh[y]); });
    std::vector<int> first_product(l_in.size());
    for (std::size_t n = 0; n < path_order_.size(); ++n) {
        const int path = path_order_[n];
        if (degrees_.empty() || degrees_.back().degree != l_in[path])
            degrees_.push_back({l_in[path], first_input[path], static_cast<int>(n), num_products_});
        first_product[path] = num_products_;
        num_products_ += (2 * l_in[path] + 1) * (2 * l_sh[path] + 1);
    }
    std::vector<int> product_of_column, degree_of_column;
    for (std::size_t path = 0; path < l_in.size(); ++path) {
        paths_.push_back({static_cast<int>(path), l_sh[path], first_input[path], 2 * l_in[path] + 1, first_product[path]});
        ++degree_start_[l_sh[path] + 1];
        for (int m = 0; m < 2 * l_in[path] + 1; ++m) {
            product_of_column.push_back(first_product[path] + m * (2 * l_sh[path] + 1));
            degree_of_column.push_back(l_sh[path]);
        }
    }
    std::partial_sum(degree_start_.begin(), degree_start_.end(), degree_start_.begin());
    std::stable_sort(paths_.begin(), paths_.end(), [](const Path& x, const Path& y) { return x.degree < y.degree; });
    std::vector<int> product;
    for (std::size_t entry = 0; entry < value.size(); ++entry) {
        const int degree = degree_of_column[column[entry]];
        product.push_back(product_of_column[column[entry]] + harmonic[entry] - degree * degree);
    }
    terms_ = {SparseMatrix(dim_out, row, product, value), SparseMatrix(num_products_, product, row, value)};
}

template <class T>
ConvolutionStructure<T> ConvolutionTable::view() const {
    return {dim_in_,
            dim_out_,
            static_cast<int>(paths_.size()),
            max_ell_,
            num_products_,
            static_cast<int>(degrees_.size()),
            paths_.data(),
            degree_start_.data(),
            terms_[0].view<T>(),
            terms_[1].view<T>(),
            degrees_.data(),
            path_order_.data()};
}

template ConvolutionStructure<float> ConvolutionTable::view() const;
template ConvolutionStructure<double> ConvolutionTable::view() const;

ContractionTable::ContractionTable(int dim_in, int dim_out, const std::vector<std::array<Index, 3>>& rows,
                                   const std::vector<std::array<Index, 2>>& columns,
                                   const std::vector<std::array<Index, 3>>& entries)
    : dim_in_(dim_in),
      dim_out_(dim_out),
      output_start_(dim_out + 1, 0),
      row_start_(rows.size() + 1, 0),
      column_start_(columns.size() + 1, 0) {
    for (const auto& [output, first, second] : rows) {
        row_factors_.push_back({first, second});
        ++output_start_[output + 1];
    }
    for (const auto& [first, second] : columns) column_factors_.push_back({first, second});
    for (const auto& [row, column, term] : entries) {
        by_column_.push_back({row, static_cast<Index>(entry_column_.size())});
        entry_column_.push_back(column);
        entry_term_.push_back(term);
        ++row_start_[row + 1];
        ++column_start_[column + 1];
    }
    for (std::vector<int>* start : {&output_start_, &row_start_, &column_start_})
        std::partial_sum(start->begin(), start->end(), start->begin());
    std::stable_sort(by_column_.begin(), by_column_.end(), [&](const Entry& x, const Entry& y) {
        return entry_column_[x.entry] < entry_column_[y.entry];
    });
    std::vector<Factors> products = row_factors_;
    products.insert(products.end(), column_factors_.begin(), column_factors_.end());
    share_start_.push_back(0);
    for (Index variable = 1; variable <= static_cast<Index>(dim_in); ++variable) {
        for (Index n = 0; n < products.size(); ++n) {
            const auto& [first, second] = products[n];
            if (first == variable) shares_.push_back({n, second});
            if (second == variable) shares_.push_back({n, first});
        }
        share_start_.push_back(static_cast<int>(shares_.size()));
    }
}

ContractionStructure ContractionTable::view() const {
    return {dim_in_,
            dim_out_,
            static_cast<int>(by_column_.size()),
            static_cast<int>(row_factors_.size()),
            static_cast<int>(column_factors_.size()),
            output_start_.data(),
            row_factors_.data(),
            row_start_.data(),
            column_factors_.data(),
            column_start_.data(),
            entry_column_.data(),
            entry_term_.data(),
            by_column_.data(),
            share_start_.data(),
            shares_.data()};
}

HarmonicTable::HarmonicTable(int max_ell, const std::vector<std::array<int, 3>>& terms,
                             const std::vector<double>& factors)
    : max_ell_(max_ell) {
    if (max_ell < 0 || max_ell > kHighestDegree) throw std::invalid_argument("harmonics of this degree are not there");
    for (std::size_t n = 0; n < terms.size(); ++n) {
        const auto [row, first, second] = terms[n];
        if (row < 4 || row >= view().width() || first < 0 || first >= row || second < 0 || second >= row)
            throw std::invalid_argument("a harmonic is made of those before it");
        terms_.push_back({row, first, second, factors.at(n)});
    }
}

HarmonicStructure HarmonicTable::view() const { return {max_ell_, static_cast<int>(terms_.size()), terms_.data()}; }

Grouping::Grouping(const std::int64_t* group, std::int64_t count, std::int64_t groups, const char* what)
    : start(groups + 1, 0), position(count) {
    for (std::int64_t n = 0; n < count; ++n) {
        if (group[n] < 0 || group[n] >= groups)
            throw std::out_of_range(std::string(what) + " " + std::to_string(group[n]) + " at position " +
                                    std::to_string(n) + " is not in 0 ... " + std::to_string(groups - 1));
        ++start[group[n] + 1];
    }
    std::partial_sum(start.begin(), start.end(), start.begin());
    std::vector<std::int64_t> next(start.begin(), start.end() - 1);
    for (std::int64_t n = 0; n < count; ++n) position[next[group[n]]++] = n;
}

}  // namespace macekit
