// Products of features with one matrix per degree, and the gradients of the matrices.
#pragma once

#include "arguments.h"
#include "row_products.h"

namespace macekit {
namespace {

constexpr std::int64_t kRowsOfSum = 32;                       // rows of both factors that share the first-level cache
constexpr int kInputsAtOnce = kRegisters == 32 ? 8 : 4;       // rows of a gradient in registers
constexpr std::int64_t kMostChannels = 128;                   // columns of the first factor there

template <class T>
std::int64_t largest(const MatrixArguments<T>& arguments, std::int64_t (*size)(const MatrixBlock<T>&)) {
    std::int64_t most = 0;
    for (std::int64_t n = 0; n < arguments.count; ++n)
        if (size(arguments.blocks[n]) > most) most = size(arguments.blocks[n]);
    return most;
}

// The matrix times its scale, or the transpose, with columns in blocks of one register.
template <class T>
void pack_matrix(const MatrixBlock<T>& block, bool transposed, T* packed) {
    constexpr std::int64_t lanes = Register<T>::lanes;
    const Register<T> scale = Register<T>::all(static_cast<T>(block.scale));
    if (!transposed) {
        for (std::int64_t o = 0; o < block.fan_out; o += lanes)
            for (std::int64_t k = 0; k < block.fan_in; ++k)
                (scale * Register<T>::load(block.matrix + k * block.fan_out + o)).store(packed + o * block.fan_in + k * lanes);
        return;
    }
    for (std::int64_t o = 0; o < block.fan_in; o += lanes)
        for (std::int64_t k = 0; k < block.fan_out; k += lanes) {
            T tile[lanes][lanes];
            for (std::int64_t i = 0; i < lanes; ++i)
                (scale * Register<T>::load(block.matrix + (o + i) * block.fan_out + k)).store(tile[i]);
            for (std::int64_t j = 0; j < lanes; ++j)
                for (std::int64_t i = 0; i < lanes; ++i) packed[o * block.fan_out + (k + j) * lanes + i] = tile[i][j];
        }
}

template <class T>
void apply_matrices(const MatrixArguments<T>& arguments, const T* in, T* out, bool transposed, int threads) {
    constexpr std::int64_t lanes = Register<T>::lanes;
    const std::int64_t size = largest<T>(arguments, [](const MatrixBlock<T>& b) { return b.fan_in * b.fan_out; });
    const std::int64_t fan = largest<T>(arguments, [](const MatrixBlock<T>& b) {
        return b.fan_in > b.fan_out ? b.fan_in : b.fan_out;
    });
    const Workspace<std::int64_t> chunks(fan / lanes);
    for (std::int64_t c = 0; c < fan / lanes; ++c) chunks.data()[c] = c * lanes;
    const int workers = threads > 0 ? threads : 1;
    run_workers(workers, [&](int worker) {
        const Workspace<T> packed(size), rows(kPanels * kRowsAtOnce * kDepth * lanes);
        for (std::int64_t n = 0; n < arguments.count; ++n) {
            const MatrixBlock<T>& b = arguments.blocks[n];
            const std::int64_t begin = b.begin + part(b.end - b.begin, workers, worker);
            const std::int64_t end = b.begin + part(b.end - b.begin, workers, worker + 1);
            if (begin == end) continue;
            pack_matrix(b, transposed, packed.data());
            // `const` is for reading alone
            const FeatureRows<const T> left = {in + (transposed ? b.first_out : b.first_in),
                                               transposed ? arguments.width_out : arguments.width_in,
                                               transposed ? b.fan_out : b.fan_in, chunks.data()};
            const FeatureRows<T> right = {out + (transposed ? b.first_in : b.first_out),
                                          transposed ? arguments.width_in : arguments.width_out,
                                          transposed ? b.fan_in : b.fan_out, chunks.data()};
            multiply(packed.data(), static_cast<int>((transposed ? b.fan_out : b.fan_in) / lanes),
                     static_cast<int>((transposed ? b.fan_in : b.fan_out) / lanes), begin, end,
                     static_cast<int>(b.components), left, right, false, rows.data());
        }
    });
}

// Rows of a gradient, `count` rows and one or two registers of columns: (+)= Σ_r x[r, .] y[r, .].
template <class T, int count, bool two>
MACEKIT_INLINE void sum_rows(const T* x, std::int64_t width_x, const T* y, std::int64_t width_y, std::int64_t rows, T* sum,
                             std::int64_t width, bool adds) {
    using V = Register<T>;
    V sums[count], others[count];
    repeat<count>([&](auto i) MACEKIT_LAMBDA {
        sums[i.value] = adds ? V::load(sum + i.value * width) : V::zero();
        if constexpr (two) others[i.value] = adds ? V::load(sum + i.value * width + V::lanes) : V::zero();
    });
    for (std::int64_t r = 0; r < rows; ++r, x += width_x, y += width_y) {
        const V first = V::load(y);
        V second;
        if constexpr (two) second = V::load(y + V::lanes);
        repeat<count>([&](auto i) MACEKIT_LAMBDA {
            const V factor = V::all(x[i.value]);
            sums[i.value] = fma(factor, first, sums[i.value]);
            if constexpr (two) others[i.value] = fma(factor, second, others[i.value]);
        });
    }
    repeat<count>([&](auto i) MACEKIT_LAMBDA {
        sums[i.value].store(sum + i.value * width);
        if constexpr (two) others[i.value].store(sum + i.value * width + V::lanes);
    });
}

template <class T, int count>
void sum_rows_of(const T* x, std::int64_t width_x, const T* y, std::int64_t width_y, std::int64_t rows, T* sum, bool adds) {
    constexpr std::int64_t lanes = Register<T>::lanes;
    std::int64_t o = 0;
    for (; o + 2 * lanes <= width_y; o += 2 * lanes)
        sum_rows<T, count, true>(x, width_x, y + o, width_y, rows, sum + o, width_y, adds);
    if (o < width_y) sum_rows<T, count, false>(x, width_x, y + o, width_y, rows, sum + o, width_y, adds);
}

// Input channels begin ... end of the gradient of one block's matrix.
template <class T>
void outer_of_block(const MatrixArguments<T>& arguments, const MatrixBlock<T>& b, const T* const* x, const T* const* y,
                    int pairs, std::int64_t begin, std::int64_t end, T* left, T* right) {
    using V = Register<T>;
    const std::int64_t width = end - begin, rows = (b.end - b.begin) * b.components;
    const V scale = V::all(static_cast<T>(b.scale));
    T* matrix = b.matrix + begin * b.fan_out;
    if (rows == 0 || pairs == 0) std::memset(matrix, 0, static_cast<std::size_t>(width * b.fan_out) * sizeof(T));
    for (int pair = 0; pair < pairs; ++pair)
        for (std::int64_t first = 0; first < rows; first += kRowsOfSum) {
            const std::int64_t count = smaller(kRowsOfSum, rows - first);
            for (std::int64_t r = 0; r < count; ++r) {
                const std::int64_t atom = b.begin + (first + r) / b.components, m = (first + r) % b.components;
                const T* from = x[pair] + atom * arguments.width_in + b.first_in + m * b.fan_in + begin;
                for (std::int64_t c = 0; c < width; c += V::lanes)
                    (scale * V::load(from + c)).store(left + r * width + c);
                from = y[pair] + atom * arguments.width_out + b.first_out + m * b.fan_out;
                for (std::int64_t o = 0; o < b.fan_out; o += V::lanes)
                    V::load(from + o).store(right + r * b.fan_out + o);
            }
            const bool adds = pair > 0 || first > 0;
            std::int64_t c = 0;
            for (; c + kInputsAtOnce <= width; c += kInputsAtOnce)
                sum_rows_of<T, kInputsAtOnce>(left + c, width, right, b.fan_out, count, matrix + c * b.fan_out, adds);
            for (; c < width; ++c) sum_rows_of<T, 1>(left + c, width, right, b.fan_out, count, matrix + c * b.fan_out, adds);
        }
}

// Every worker has some input channels of every matrix, so that sums do not depend on their number.
template <class T>
void outer_products(const MatrixArguments<T>& arguments, const T* const* x, const T* const* y, int pairs, int threads) {
    constexpr std::int64_t lanes = Register<T>::lanes;
    const std::int64_t fan = largest<T>(arguments, [](const MatrixBlock<T>& b) { return b.fan_out; });
    const int workers = threads > 0 ? threads : 1;
    run_workers(workers, [&](int worker) {
        const Workspace<T> left(kRowsOfSum * kMostChannels), right(kRowsOfSum * fan);
        for (std::int64_t n = 0; n < arguments.count; ++n) {
            const MatrixBlock<T>& b = arguments.blocks[n];
            const std::int64_t end = part(b.fan_in / lanes, workers, worker + 1) * lanes;
            for (std::int64_t c = part(b.fan_in / lanes, workers, worker) * lanes; c < end; c += kMostChannels)
                outer_of_block(arguments, b, x, y, pairs, c, smaller(c + kMostChannels, end), left.data(), right.data());
        }
    });
}

}  // namespace
}  // namespace macekit
