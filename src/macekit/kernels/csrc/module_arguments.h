// What the extension module is given by Python.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "tables.h"

namespace macekit {

using Address = std::uintptr_t;

template <class T>
T* at(Address address) {
    return reinterpret_cast<T*>(address);
}

template <class T>
std::vector<T*> pointers(const std::vector<Address>& addresses) {
    std::vector<T*> found;
    for (const Address address : addresses) found.push_back(at<T>(address));
    return found;
}

// How to run: instruction set, whether numbers are float64, number of threads.
struct Run {
    std::string instruction_set;
    bool twice;
    int threads;
};

// Calls body(T()) for the precision of the numbers.
template <class Body>
void in_precision(const Run& run, const Body& body) {
    if (run.twice)
        body(double());
    else
        body(float());
}

// Edges in the order of their receivers, with the memory that the view points to.
class SortedEdges {
   public:
    SortedEdges(std::int64_t atoms, std::int64_t count, Address sender, Address receiver)
        : atoms_(atoms), grouping_(at<const std::int64_t>(receiver), count, atoms, "receiver"), senders_(count) {
        const std::int64_t* senders = at<const std::int64_t>(sender);
        for (std::int64_t n = 0; n < count; ++n) {
            const std::int64_t j = senders[grouping_.position[n]];
            if (j < 0 || j >= atoms)
                throw std::out_of_range("sender " + std::to_string(j) + " is not in 0 ... " +
                                        std::to_string(atoms - 1));
            senders_[n] = j;
        }
    }
    Edges view() const {
        return {atoms_, static_cast<std::int64_t>(senders_.size()), grouping_.start.data(), grouping_.position.data(),
                senders_.data()};
    }

   private:
    std::int64_t atoms_;
    Grouping grouping_;
    std::vector<std::int64_t> senders_;
};

// First knot, distance of knots, number of rows.
struct Knots {
    double first, step;
    std::int64_t rows;
};

// The blocks of one map of features. Numbers of a block: which of the tensors, which matrix in it, then the integers of
// `MatrixBlock` in order.
class MatrixPlan {
   public:
    MatrixPlan(std::int64_t width_in, std::int64_t width_out, const std::vector<std::array<std::int64_t, 9>>& blocks,
               const std::vector<double>& scales)
        : width_in_(width_in), width_out_(width_out), blocks_(blocks), scales_(scales) {
        for (const auto& b : blocks_) {
            const std::int64_t rows = (b[3] - b[2]) * b[8];
            numbers_in_ += rows * b[5];
            numbers_out_ += rows * b[7];
            work_ += static_cast<double>(rows * b[5] * b[7]);
        }
    }

    // Numbers of one atom in input and output.
    std::int64_t width_in() const { return width_in_; }
    std::int64_t width_out() const { return width_out_; }
    // Multiplications of one product.
    double work() const { return work_; }
    // Whether the blocks make every number of the output, or of the input where the matrices are transposed.
    bool covers(std::int64_t atoms, bool transposed) const {
        return transposed ? numbers_in_ == atoms * width_in_ : numbers_out_ == atoms * width_out_;
    }

    // Calls body(arguments) with the matrices at these addresses.
    template <class T, class Body>
    void with(const std::vector<Address>& matrices, const Body& body) const {
        std::vector<MatrixBlock<T>> blocks;
        for (std::size_t n = 0; n < blocks_.size(); ++n) {
            const auto& b = blocks_[n];
            T* matrix = at<T>(matrices.at(static_cast<std::size_t>(b[0]))) + b[1] * b[5] * b[7];
            blocks.push_back({b[2], b[3], b[4], b[5], b[6], b[7], b[8], scales_.at(n), matrix});
        }
        body(MatrixArguments<T>{width_in_, width_out_, blocks.data(), static_cast<std::int64_t>(blocks.size())});
    }

   private:
    std::int64_t width_in_, width_out_;
    std::int64_t numbers_in_ = 0, numbers_out_ = 0;
    double work_ = 0.0;
    std::vector<std::array<std::int64_t, 9>> blocks_;
    std::vector<double> scales_;
};

}  // namespace macekit
