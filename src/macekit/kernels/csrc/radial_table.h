// The radial multilayer perceptron at the knots of a table: values as coefficients of splines, and the gradients of its
// matrices. Linear maps without bias with z/(1 + exp(-z)) between them; the last map comes after the filter of the splines.
#pragma once

#include <cstring>

#include "arguments.h"
#include "matrices.h"
#include "spline_filter.h"

namespace macekit {
namespace {

// How numbers are made of bits.
template <class T>
struct Bits;
template <>
struct Bits<float> {
    using Integer = std::uint32_t;
    static constexpr float rounding = 12582912.0f, largest = 87.0f;  // 1.5 2^23; exp(88.7) overflows
    static constexpr int mantissa = 23, terms = 7;
};
template <>
struct Bits<double> {
    using Integer = std::uint64_t;
    static constexpr double rounding = 6755399441055744.0, largest = 708.0;  // 1.5 2^52; exp(709.8) overflows
    static constexpr int mantissa = 52, terms = 13;
};

// exp(x) = 2^n exp(r) with |r| <= log(2)/2 by its series; of x within +-`largest`, NaN stays. Loops over it are vectorised.
template <class T>
MACEKIT_INLINE T exponential(T x) {
    using Integer = typename Bits<T>::Integer;
    constexpr T rounding = Bits<T>::rounding, largest = Bits<T>::largest;
    constexpr T log2 = static_cast<T>(0.693359375), rest = static_cast<T>(-2.12194440054690583e-4);  // log(2), 9 bits first
    x = x > largest ? largest : x;
    x = x < -largest ? -largest : x;
    const T shifted = x * static_cast<T>(1.44269504088896340736) + rounding;  // n is in its last bits
    const T n = shifted - rounding;
    const T r = (x - n * log2) - n * rest;
    T sum = 1;
    repeat<Bits<T>::terms>([&](auto k) MACEKIT_LAMBDA { sum = 1 + sum * r * (T(1) / (Bits<T>::terms - k.value)); });
    Integer bits, power;
    std::memcpy(&bits, &sum, sizeof(T));
    std::memcpy(&power, &shifted, sizeof(T));
    bits += power << Bits<T>::mantissa;
    std::memcpy(&sum, &bits, sizeof(T));
    return sum;
}

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

// out [rows, fan_out] = scale in [rows, fan_in] W, or out [rows, fan_in] = scale in [rows, fan_out] W^T, in whole registers.
template <class T>
void multiply_dense(const T* matrix, std::int64_t fan_in, std::int64_t fan_out, double scale, bool transposed, const T* in,
                    std::int64_t rows, T* out) {
    constexpr std::int64_t lanes = Register<T>::lanes;
    const std::int64_t inner = transposed ? fan_out : fan_in, outer = transposed ? fan_in : fan_out;
    const Workspace<T> packed(fan_in * fan_out), scratch(kPanels * kRowsAtOnce * kDepth * lanes);
    const Workspace<std::int64_t> chunks((inner > outer ? inner : outer) / lanes);
    for (std::int64_t c = 0; c * lanes < inner || c * lanes < outer; ++c) chunks.data()[c] = c * lanes;
    pack_matrix<T>({0, rows, 0, fan_in, 0, fan_out, 1, scale, const_cast<T*>(matrix)}, transposed, packed.data());
    multiply<T>(packed.data(), static_cast<int>(inner / lanes), static_cast<int>(outer / lanes), 0, rows, 1,
                {in, inner, inner, chunks.data()}, {out, outer, outer, chunks.data()}, false, scratch.data());
}

// Rows of `width` numbers, filled up with zeros to `padded`.
template <class T>
void pad_rows(const T* from, std::int64_t rows, std::int64_t width, std::int64_t padded, T* to) {
    for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < padded; ++c) to[r * padded + c] = c < width ? from[r * width + c] : T(0);
}

// The first map, whose inputs need not be whole registers.
template <class T>
void multiply_basis(const RadialArguments<T>& a, std::int64_t begin, std::int64_t end, T* out) {
    constexpr std::int64_t lanes = Register<T>::lanes;
    const std::int64_t width = a.widths[0], padded = (width + lanes - 1) / lanes * lanes, fan_out = a.widths[1];
    const Workspace<T> matrix(padded * fan_out), rows((end - begin) * padded);
    std::memcpy(matrix.data(), a.matrices[0], static_cast<std::size_t>(width * fan_out) * sizeof(T));
    std::memset(matrix.data() + width * fan_out, 0, static_cast<std::size_t>((padded - width) * fan_out) * sizeof(T));
    pad_rows(a.basis + begin * width, end - begin, width, padded, rows.data());
    multiply_dense(matrix.data(), padded, fan_out, a.factors[0], false, rows.data(), end - begin, out);
}

// Columns begin ... end of sum [width_x, width_y] = scale x^T y; a block of columns of y stays in the first-level cache.
template <class T>
void sum_columns(const T* x, std::int64_t width_x, const T* y, std::int64_t width_y, std::int64_t rows, double scale,
                 std::int64_t begin, std::int64_t end, T* sum) {
    constexpr std::int64_t lanes = Register<T>::lanes;
    const Workspace<T> scaled(rows * width_x);
    for (std::int64_t n = 0; n < rows * width_x; ++n) scaled.data()[n] = static_cast<T>(scale) * x[n];
    const auto columns = [&](auto two, std::int64_t o) {
        constexpr bool has_two = decltype(two)::value == 2;
        const T* from = scaled.data();
        std::int64_t c = 0;
        for (; c + kInputsAtOnce <= width_x; c += kInputsAtOnce)
            sum_rows<T, kInputsAtOnce, has_two>(from + c, width_x, y + o, width_y, rows, sum + c * width_y + o, width_y, false);
        for (; c < width_x; ++c)
            sum_rows<T, 1, has_two>(from + c, width_x, y + o, width_y, rows, sum + c * width_y + o, width_y, false);
    };
    std::int64_t o = begin;
    for (; o + 2 * lanes <= end; o += 2 * lanes) columns(Number<2>(), o);
    if (o < end) columns(Number<1>(), o);
}

// Calls body(begin, end) for shares of `count` blocks of `size`.
template <class Body>
void share(std::int64_t count, std::int64_t size, int threads, const Body& body) {
    const int workers = threads > 0 ? threads : 1;
    run_workers(workers, [&](int worker) {
        const std::int64_t begin = part(count, workers, worker) * size, end = part(count, workers, worker + 1) * size;
        if (begin < end) body(begin, end);
    });
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
            if (layer == 0)
                multiply_basis(a, begin, end, z);
            else
                multiply_dense(a.matrices[layer], a.widths[layer], width, a.factors[layer], false, x.data(), end - begin, z);
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
