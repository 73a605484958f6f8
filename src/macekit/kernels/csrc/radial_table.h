// The radial multilayer perceptron at the knots of a table: values as coefficients of splines, and the gradients of its
// matrices. Linear maps without bias with z/(1 + exp(-z)) between them; the last map comes after the filter of the splines.
#pragma once

#include "arguments.h"
#include "dense_products.h"
#include "exponential.h"
#include "spline_filter.h"

namespace macekit {
namespace {

template <class T>
void activate(const T* z, std::int64_t count, T* out) {
    for (std::int64_t n = 0; n < count; ++n) out[n] = z[n] / (1 + exponential(-z[n]));
}

// numbers times the slope of the activation, and its value.
template <class T>
void differentiate(const T* z, std::int64_t count, T* numbers, T* value) {
    for (std::int64_t n = 0; n < count; ++n) {
        const T sigmoid = 1 / (1 + exponential(-z[n]));
        value[n] = z[n] * sigmoid;
        numbers[n] *= sigmoid + value[n] * (1 - sigmoid);
    }
}

template <class T>
void radial_table(const RadialArguments<T>& a, T* table, int threads) {
    const int last = a.depth - 1;
    const std::int64_t units = a.widths[last], outputs = a.widths[a.depth];
    const Workspace<T> hidden(a.knots * units);
    share(a.knots, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        std::int64_t most = units;
        for (int layer = 1; layer < last; ++layer) most = most > a.widths[layer] ? most : a.widths[layer];
        const Workspace<T> x((end - begin) * most);
        for (int layer = 0; layer < last; ++layer) {
            const std::int64_t width = a.widths[layer + 1];
            T* z = a.inner[layer] + begin * width;
            multiply_any(a.matrices[layer], a.widths[layer], width, a.factors[layer],
                         layer == 0 ? a.basis + begin * a.widths[0] : x.data(), end - begin, z);
            activate(z, (end - begin) * width, x.data());
        }
        for (std::int64_t row = begin; row < end; ++row) {
            const T factor = a.envelope == nullptr ? T(1) : a.envelope[row];
            for (std::int64_t u = 0; u < units; ++u)
                hidden.data()[row * units + u] = factor * x.data()[(row - begin) * units + u];
        }
    });
    spline_coefficients<T>(a.knots, units, hidden.data(), a.filtered);
    share(a.knots + 2, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        multiply_dense(a.matrices[last], units, outputs, a.factors[last], false, a.filtered + begin * units, end - begin,
                       table + begin * outputs);
    });
}

template <class T>
void radial_table_backward(const RadialArguments<T>& a, const T* grad, T* const* gradients, int threads) {
    constexpr std::int64_t lanes = Register<T>::lanes;
    const int last = a.depth - 1;
    const std::int64_t units = a.widths[last], outputs = a.widths[a.depth];
    const Workspace<std::int64_t> starts(a.depth);  // of every hidden layer among the numbers of all
    std::int64_t* start = starts.data();
    start[0] = 0;
    for (int layer = 0; layer < last; ++layer) start[layer + 1] = start[layer] + a.knots * a.widths[layer + 1];
    const Workspace<T> values(start[last]), to_z(start[last]), to_filtered((a.knots + 2) * units);
    share(a.knots + 2, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        multiply_dense(a.matrices[last], units, outputs, a.factors[last], true, grad + begin * outputs, end - begin,
                       to_filtered.data() + begin * units);
    });
    spline_coefficients_transposed<T>(a.knots, units, to_filtered.data(), to_z.data() + start[last - 1]);
    share(a.knots, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; a.envelope != nullptr && row < end; ++row)
            for (std::int64_t u = 0; u < units; ++u) to_z.data()[start[last - 1] + row * units + u] *= a.envelope[row];
        for (int layer = last - 1; layer >= 0; --layer) {
            const std::int64_t width = a.widths[layer + 1], from = start[layer] + begin * width;
            differentiate(a.inner[layer] + begin * width, (end - begin) * width, to_z.data() + from, values.data() + from);
            if (layer > 0)
                multiply_dense(a.matrices[layer], a.widths[layer], width, a.factors[layer], true, to_z.data() + from,
                               end - begin, to_z.data() + start[layer - 1] + begin * a.widths[layer]);
        }
    });
    const auto outer = [&](int layer, const T* x, const T* y, std::int64_t rows) {
        const std::int64_t width = a.widths[layer + 1];
        share(width / lanes, lanes, threads, [&](std::int64_t begin, std::int64_t end) {
            sum_columns(x, a.widths[layer], y, width, rows, a.factors[layer], begin, end, gradients[layer]);
        });
    };
    outer(last, a.filtered, grad, a.knots + 2);
    for (int layer = 0; layer < last; ++layer)
        outer(layer, layer == 0 ? a.basis : values.data() + start[layer - 1], to_z.data() + start[layer], a.knots);
}

}  // namespace
}  // namespace macekit
