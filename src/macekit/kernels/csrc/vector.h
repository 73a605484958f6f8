// One register of numbers, and the few operations that the kernels need, for the instruction set being compiled.
//
// Everything here and in the kernels is in a namespace of the instruction set, with internal linkage, so that the
// linker can never put a function compiled for AVX-512 where another object calls it.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
#include "vector_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__)
#include "vector_avx2.h"
#else
#include "vector_generic.h"
#endif

namespace macekit {
namespace {

// Merges that make one register of as many as there are lanes.
template <class T>
constexpr int kMerges = Register<T>::lanes == 16 ? 4 : Register<T>::lanes == 8 ? 3 : Register<T>::lanes == 4 ? 2 : 1;

template <class T, int level, int first>
MACEKIT_INLINE Register<T> merged_rows(const T* rows) {
    if constexpr (level == 0)
        return Register<T>::load(rows + first * Register<T>::lanes);
    else
        return merge<level - 1>(merged_rows<T, level - 1, first>(rows),
                                merged_rows<T, level - 1, first + (1 << (level - 1))>(rows));
}

// Adds the sum of the lanes of every one of some rows to totals, as many rows as there are lanes.
template <class T>
MACEKIT_INLINE void add_sums_of_rows(const T* rows, T* totals) {
    (Register<T>::load(totals) + merged_rows<T, kMerges<T>, 0>(rows)).store(totals);
}

}  // namespace
}  // namespace macekit
