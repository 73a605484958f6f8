// From values at evenly spaced knots to coefficients of a cubic B-spline, and the transpose; see `kernels/splines.py`.
#pragma once

#include <cstdint>

namespace macekit {

// values [knots, width], coefficients [knots + 2, width]; at least 5 knots. Either is made out of the other.
template <class T>
void spline_coefficients(std::int64_t knots, std::int64_t width, const T* values, T* coefficients);
template <class T>
void spline_coefficients_transposed(std::int64_t knots, std::int64_t width, const T* coefficients, T* values);

}  // namespace macekit
