// Products of dense matrices out of the kernels for features, and sums over their rows.
#pragma once

#include "matrices.h"

namespace macekit {
namespace {

// out [rows, fan_out] (+)= scale in [rows, fan_in] W, or out [rows, fan_in] (+)= scale in [rows, fan_out] W^T; fans are
// whole registers.
template <class T>
void multiply_dense(const T* matrix, std::int64_t fan_in, std::int64_t fan_out, double scale, bool transposed, const T* in,
                    std::int64_t rows, T* out, bool adds = false) {
    constexpr std::int64_t lanes = Register<T>::lanes;
    const std::int64_t inner = transposed ? fan_out : fan_in, outer = transposed ? fan_in : fan_out;
    const Workspace<T> packed(fan_in * fan_out), scratch(kPanels * kRowsAtOnce * kDepth * lanes);
    const Workspace<std::int64_t> chunks((inner > outer ? inner : outer) / lanes);
    for (std::int64_t c = 0; c * lanes < inner || c * lanes < outer; ++c) chunks.data()[c] = c * lanes;
    pack_matrix<T>({0, rows, 0, fan_in, 0, fan_out, 1, scale, const_cast<T*>(matrix)}, transposed, packed.data());
    multiply<T>(packed.data(), static_cast<int>(inner / lanes), static_cast<int>(outer / lanes), 0, rows, 1,
                {in, inner, inner, chunks.data()}, {out, outer, outer, chunks.data()}, adds, scratch.data());
}

// The same where fan_in need not be whole registers: rows and matrix are filled up with zeros.
template <class T>
void multiply_any(const T* matrix, std::int64_t fan_in, std::int64_t fan_out, double scale, const T* in, std::int64_t rows,
                  T* out) {
    constexpr std::int64_t lanes = Register<T>::lanes;
    const std::int64_t padded = (fan_in + lanes - 1) / lanes * lanes;
    if (padded == fan_in) return multiply_dense(matrix, fan_in, fan_out, scale, false, in, rows, out);
    const Workspace<T> whole(padded * fan_out), wide(rows * padded);
    std::memcpy(whole.data(), matrix, static_cast<std::size_t>(fan_in * fan_out) * sizeof(T));
    std::memset(whole.data() + fan_in * fan_out, 0, static_cast<std::size_t>((padded - fan_in) * fan_out) * sizeof(T));
    for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t c = 0; c < padded; ++c) wide.data()[r * padded + c] = c < fan_in ? in[r * fan_in + c] : T(0);
    multiply_dense(whole.data(), padded, fan_out, scale, false, wide.data(), rows, out);
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

}  // namespace
}  // namespace macekit
