// Features and tables of one block of channels, with its numbers next to each other.
#pragma once

#include <cstdint>
#include <cstring>

#include "vector.h"

namespace macekit {
namespace {

// Rows of packed numbers [outer][inner][lanes] of one block of channels of some columns of [outer][width][K]: `order` has
// their positions, and `used` tells which of the outer rows there are; null: the first ones in order, and all.
struct Rows {
    std::int64_t outer;
    int width, inner;
    const int* order;
    const char* used;
    int position(int j) const { return order ? order[j] : j; }
    bool is_used(std::int64_t i) const { return used == nullptr || used[i]; }
};

template <class T, class Lanes>
void pack(const T* numbers, const Rows& rows, std::int64_t channels, T* packed, Lanes valid) {
    using V = Register<T>;
    for (std::int64_t i = 0; i < rows.outer; ++i, numbers += rows.width * channels, packed += rows.inner * V::lanes)
        if (rows.is_used(i))
            for (int j = 0; j < rows.inner; ++j)
                V::load(numbers + rows.position(j) * channels, valid).store(packed + j * V::lanes);
}

template <class T>
void clear(const Rows& rows, T* packed) {
    const std::size_t length = static_cast<std::size_t>(rows.inner) * Register<T>::lanes;
    for (std::int64_t i = 0; i < rows.outer; ++i)
        if (rows.is_used(i)) std::memset(packed + i * length, 0, length * sizeof(T));
}

// Of these columns; what is not used is zero.
template <class T, class Lanes>
void unpack(const T* packed, const Rows& rows, std::int64_t channels, T* numbers, Lanes valid) {
    using V = Register<T>;
    for (std::int64_t i = 0; i < rows.outer; ++i, numbers += rows.width * channels, packed += rows.inner * V::lanes)
        for (int j = 0; j < rows.inner; ++j)
            (rows.is_used(i) ? V::load(packed + j * V::lanes) : V::zero())
                .store(numbers + rows.position(j) * channels, valid);
}

}  // namespace
}  // namespace macekit
