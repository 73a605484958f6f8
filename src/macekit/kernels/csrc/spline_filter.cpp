// With G knots the coefficients c solve c_k + 4 c_{k+1} + c_{k+2} = 6 v_k for k = 0 ... G - 1, and two conditions at the
// ends, from which c_2 = (8 v_1 - v_0 - v_2) / 6 and c_{G+1} = c_{G-1}. Then c_3 ... c_G are the solution of a tridiagonal
// system, and c_1 and c_0 follow. The transpose goes the same way back.
#include "spline_filter.h"

#include <vector>

namespace macekit {
namespace {

// Elimination of c_{j-1} from the equation of c_j: c_j = (right side - below c_{j-1}) inverse - factor c_{j+1}.
struct Step {
    double below, inverse, factor;
};

std::vector<Step> elimination(std::int64_t knots) {
    std::vector<Step> steps(static_cast<std::size_t>(knots + 1));
    double factor = 0.0;  // c_2 is known
    for (std::int64_t j = 3; j <= knots; ++j) {
        const double below = j == knots ? 2.0 : 1.0;
        const double inverse = 1.0 / (4.0 - below * factor);
        factor = j == knots ? 0.0 : inverse;
        steps[static_cast<std::size_t>(j)] = {below, inverse, factor};
    }
    return steps;
}

// A row of numbers, to which multiples of others are added.
template <class T>
struct Row {
    T* numbers;
    std::int64_t width;
    void set(double factor, const T* other) const {
        const T f = static_cast<T>(factor);
        for (std::int64_t n = 0; n < width; ++n) numbers[n] = f * other[n];
    }
    void add(double factor, const T* other) const {
        const T f = static_cast<T>(factor);
        for (std::int64_t n = 0; n < width; ++n) numbers[n] += f * other[n];
    }
    void scale(double factor) const { set(factor, numbers); }
};

}  // namespace

template <class T>
void spline_coefficients(std::int64_t knots, std::int64_t width, const T* values, T* coefficients) {
    const std::vector<Step> steps = elimination(knots);
    const auto v = [&](std::int64_t k) { return values + k * width; };
    const auto c = [&](std::int64_t k) { return Row<T>{coefficients + k * width, width}; };
    c(2).set(8.0 / 6.0, v(1));
    c(2).add(-1.0 / 6.0, v(0));
    c(2).add(-1.0 / 6.0, v(2));
    for (std::int64_t j = 3; j <= knots; ++j) {
        const Step& step = steps[static_cast<std::size_t>(j)];
        c(j).set(6.0 * step.inverse, v(j - 1));
        c(j).add(-step.below * step.inverse, c(j - 1).numbers);
    }
    for (std::int64_t j = knots - 1; j >= 3; --j)
        c(j).add(-steps[static_cast<std::size_t>(j)].factor, c(j + 1).numbers);
    for (std::int64_t j = 1; j >= 0; --j) {
        c(j).set(6.0, v(j));
        c(j).add(-4.0, c(j + 1).numbers);
        c(j).add(-1.0, c(j + 2).numbers);
    }
    c(knots + 1).set(1.0, c(knots - 1).numbers);
}

template <class T>
void spline_coefficients_transposed(std::int64_t knots, std::int64_t width, const T* coefficients, T* values) {
    const std::vector<Step> steps = elimination(knots);
    std::vector<T> memory(coefficients, coefficients + (knots + 2) * width);
    const auto c = [&](std::int64_t k) { return Row<T>{memory.data() + k * width, width}; };
    const auto v = [&](std::int64_t k) { return Row<T>{values + k * width, width}; };
    c(knots - 1).add(1.0, c(knots + 1).numbers);
    for (std::int64_t j = 0; j <= 1; ++j) {
        v(j).set(6.0, c(j).numbers);
        c(j + 1).add(-4.0, c(j).numbers);
        c(j + 2).add(-1.0, c(j).numbers);
    }
    for (std::int64_t j = 3; j < knots; ++j)
        c(j + 1).add(-steps[static_cast<std::size_t>(j)].factor, c(j).numbers);
    for (std::int64_t j = knots; j >= 3; --j) {
        const Step& step = steps[static_cast<std::size_t>(j)];
        c(j).scale(step.inverse);
        v(j - 1).set(6.0, c(j).numbers);
        c(j - 1).add(-step.below, c(j).numbers);
    }
    v(1).add(8.0 / 6.0, c(2).numbers);
    v(0).add(-1.0 / 6.0, c(2).numbers);
    v(2).add(-1.0 / 6.0, c(2).numbers);
}

template void spline_coefficients(std::int64_t, std::int64_t, const float*, float*);
template void spline_coefficients(std::int64_t, std::int64_t, const double*, double*);
template void spline_coefficients_transposed(std::int64_t, std::int64_t, const float*, float*);
template void spline_coefficients_transposed(std::int64_t, std::int64_t, const double*, double*);

}  // namespace macekit
