// Numbers as the engine's kernels read them: padded to whole registers, in blocks of channels, on 64-byte boundaries.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine_model.h"

namespace macekit {

// Zeros on a 64-byte boundary that live as long as the store.
class Store {
   public:
    Store() = default;
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;
    ~Store() {
        for (void* part : parts_) std::free(part);
    }
    template <class T>
    T* zeros(std::int64_t count) {
        const std::size_t bytes = (static_cast<std::size_t>(count > 0 ? count : 1) * sizeof(T) + 63) / 64 * 64;
        void* part = std::aligned_alloc(64, bytes);
        if (part == nullptr) throw std::bad_alloc();
        parts_.push_back(part);
        T* numbers = static_cast<T*>(part);
        for (std::int64_t n = 0; n < static_cast<std::int64_t>(bytes / sizeof(T)); ++n) numbers[n] = T(0);
        return numbers;
    }
    template <class T, class From>
    const T* copy(const From* from, std::int64_t count) {
        T* numbers = zeros<T>(count);
        for (std::int64_t n = 0; n < count; ++n) numbers[n] = static_cast<T>(from[n]);
        return numbers;
    }

   private:
    std::vector<void*> parts_;
};

inline void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(std::string("engine: ") + what + " has the wrong size");
}

// Packs for registers of `lanes` channels.
template <class T>
class Packing {
   public:
    Packing(Store& store, int lanes) : store_(store), lanes_(lanes) {}

    int blocks(int channels) const { return (channels + lanes_ - 1) / lanes_; }

    // Matrices [variants][parts · width][out]; every part of the input is padded to whole blocks on its own.
    EngineLinear<T> linear(Numbers matrices, int parts, int width, int out) const {
        const std::int64_t size = static_cast<std::int64_t>(parts) * width * out;
        require(size > 0 && matrices.size % size == 0, "a matrix");
        const int variants = static_cast<int>(matrices.size / size);
        const int inner = parts * blocks(width), outer = blocks(out);
        const std::int64_t padded = static_cast<std::int64_t>(inner) * outer * lanes_ * lanes_;
        T *forward = store_.zeros<T>(variants * padded), *backward = store_.zeros<T>(variants * padded);
        for (int v = 0; v < variants; ++v)
            for (int part = 0; part < parts; ++part)
                for (int k = 0; k < width; ++k)
                    for (int o = 0; o < out; ++o) {
                        const T x = static_cast<T>(matrices.data[v * size + (static_cast<std::int64_t>(part) * width + k) * out + o]);
                        const std::int64_t row = static_cast<std::int64_t>(part) * blocks(width) * lanes_ + k;
                        forward[v * padded + ((o / lanes_) * static_cast<std::int64_t>(inner) * lanes_ + row) * lanes_ + o % lanes_] = x;
                        backward[v * padded + ((row / lanes_) * static_cast<std::int64_t>(outer) * lanes_ + o) * lanes_ + row % lanes_] = x;
                    }
        return {inner, outer, variants, forward, backward};
    }

    // [rows][columns][width] as [block][rows][columns][lane].
    const T* blocked(Numbers numbers, std::int64_t rows, int columns, int width) const {
        require(numbers.size == rows * columns * width, "a table");
        T* packed = store_.zeros<T>(blocks(width) * rows * columns * lanes_);
        for (std::int64_t row = 0; row < rows; ++row)
            for (int column = 0; column < columns; ++column)
                for (int k = 0; k < width; ++k)
                    packed[((k / lanes_ * rows + row) * columns + column) * lanes_ + k % lanes_] =
                        static_cast<T>(numbers.data[(row * columns + column) * width + k]);
        return packed;
    }

    // Piecewise polynomials [rows][coefficients][columns][width] as [block][rows][columns][coefficient][lane]: what is
    // read for one column lies together.
    const T* pieces(Numbers numbers, std::int64_t rows, int coefficients, int columns, int width) const {
        require(numbers.size == rows * coefficients * columns * width, "a table");
        T* packed = store_.zeros<T>(blocks(width) * rows * columns * coefficients * lanes_);
        const double* from = numbers.data;
        for (std::int64_t row = 0; row < rows; ++row)
            for (int c = 0; c < coefficients; ++c)
                for (int column = 0; column < columns; ++column)
                    for (int k = 0; k < width; ++k)
                        packed[(((k / lanes_ * rows + row) * columns + column) * coefficients + c) * lanes_ + k % lanes_] =
                            static_cast<T>(*from++);
        return packed;
    }

    EngineSparse<T> sparse(const Entries& entries) const {
        std::vector<int> start(entries.rows + 1, 0), column;
        std::vector<double> value;
        for (int r = 0; r < entries.rows; ++r) {
            for (std::size_t n = 0; n < entries.row.size(); ++n)
                if (entries.row[n] == r) {
                    column.push_back(entries.column[n]);
                    value.push_back(entries.value[n]);
                }
            start[r + 1] = static_cast<int>(column.size());
        }
        return {entries.rows, store_.copy<int>(start.data(), entries.rows + 1),
                store_.copy<int>(column.data(), static_cast<std::int64_t>(column.size())),
                store_.copy<T>(value.data(), static_cast<std::int64_t>(value.size()))};
    }

   private:
    Store& store_;
    int lanes_;
};

}  // namespace macekit
