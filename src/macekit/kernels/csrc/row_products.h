// Rows of features, several at once, times packed matrices.
//
// A packed matrix has its columns in blocks of one register: [block of columns][input channel][lanes].
#pragma once

#include <cstdint>

#include "vector.h"
#include "workspace.h"

namespace macekit {
namespace {

// Rows of features: those of component m of atom n in chunk c are lanes at data + n atom + m component + chunk[c].
template <class T>
struct FeatureRows {
    T* data;
    std::int64_t atom, component;
    const std::int64_t* chunk;
};

constexpr int kRowsAtOnce = kRegisters == 32 ? 12 : 6;
constexpr int kPanels = kRegisters == 32 ? 8 : 4;  // of rows, that share a part of the matrix while it is in the cache
constexpr int kDepth = kRegisters == 32 ? 8 : 16;  // registers of input channels at once

// `count` gathered rows times the packed columns `first` and `second` (or one alone).
template <class T, int count, bool two>
MACEKIT_INLINE void multiply_rows(const T* rows, std::int64_t depth, const T* first, const T* second, T* const* out,
                                  std::int64_t to_first, std::int64_t to_second, bool adds) {
    using V = Register<T>;
    constexpr std::int64_t stride = kDepth * V::lanes;
    V sums[count], others[count];
    repeat<count>([&](auto rr) MACEKIT_LAMBDA {
        constexpr int r = decltype(rr)::value;
        sums[r] = adds ? V::load(out[r] + to_first) : V::zero();
        if constexpr (two) others[r] = adds ? V::load(out[r] + to_second) : V::zero();
    });
    for (std::int64_t k = 0; k < depth; ++k) {
        const V x = V::load(first + k * V::lanes);
        V y;
        if constexpr (two) y = V::load(second + k * V::lanes);
        repeat<count>([&](auto rr) MACEKIT_LAMBDA {
            constexpr int r = decltype(rr)::value;
            const V a = V::all(rows[r * stride + k]);
            sums[r] = fma(a, x, sums[r]);
            if constexpr (two) others[r] = fma(a, y, others[r]);
        });
    }
    repeat<count>([&](auto rr) MACEKIT_LAMBDA {
        constexpr int r = decltype(rr)::value;
        sums[r].store(out[r] + to_first);
        if constexpr (two) others[r].store(out[r] + to_second);
    });
}

template <class T, bool two>
void multiply_panel(int count, const T* rows, std::int64_t depth, const T* first, const T* second, T* const* out,
                    std::int64_t to_first, std::int64_t to_second, bool adds) {
    switch (count) {
#define MACEKIT_PANEL(n) \
    case n: multiply_rows<T, n, two>(rows, depth, first, second, out, to_first, to_second, adds); break;
        MACEKIT_PANEL(1)
        MACEKIT_PANEL(2)
        MACEKIT_PANEL(3)
        MACEKIT_PANEL(4)
        MACEKIT_PANEL(5)
        MACEKIT_PANEL(6)
#if defined(__AVX512F__)
        MACEKIT_PANEL(7)
        MACEKIT_PANEL(8)
        MACEKIT_PANEL(9)
        MACEKIT_PANEL(10)
        MACEKIT_PANEL(11)
        MACEKIT_PANEL(12)
#endif
#undef MACEKIT_PANEL
    }
}

// out[n, m] (+)= in[n, m] W for atoms begin ... end and `components` rows of each; scratch holds the gathered rows.
template <class T>
void multiply(const T* packed, int inner, int outer, std::int64_t begin, std::int64_t end, int components,
              const FeatureRows<const T>& in, const FeatureRows<T>& out, bool adds, T* scratch) {
    using V = Register<T>;
    constexpr std::int64_t stride = kDepth * V::lanes;
    const std::int64_t column = static_cast<std::int64_t>(inner) * V::lanes * V::lanes;
    const T* sources[kPanels * kRowsAtOnce];
    T* targets[kPanels * kRowsAtOnce];
    std::int64_t atom = begin;
    int component = 0;
    while (atom < end) {
        int count = 0;
        for (; count < kPanels * kRowsAtOnce && atom < end; ++count) {
            sources[count] = in.data + atom * in.atom + component * in.component;
            targets[count] = out.data + atom * out.atom + component * out.component;
            if (++component == components) {
                component = 0;
                ++atom;
            }
        }
        for (int start = 0; start < inner; start += kDepth) {
            const int chunks = inner - start < kDepth ? inner - start : kDepth;
            for (int r = 0; r < count; ++r)
                for (int c = 0; c < chunks; ++c)
                    V::load(sources[r] + in.chunk[start + c]).store(scratch + r * stride + c * V::lanes);
            const T* part = packed + start * V::lanes * V::lanes;
            const bool adding = adds || start > 0;
            int o = 0;
            for (; o + 2 <= outer; o += 2)
                for (int r = 0; r < count; r += kRowsAtOnce)
                    multiply_panel<T, true>(count - r < kRowsAtOnce ? count - r : kRowsAtOnce, scratch + r * stride,
                                            chunks * V::lanes, part + o * column, part + (o + 1) * column, targets + r,
                                            out.chunk[o], out.chunk[o + 1], adding);
            for (int r = 0; o < outer && r < count; r += kRowsAtOnce)
                multiply_panel<T, false>(count - r < kRowsAtOnce ? count - r : kRowsAtOnce, scratch + r * stride,
                                         chunks * V::lanes, part + o * column, nullptr, targets + r, out.chunk[o], 0,
                                         adding);
        }
    }
}

}  // namespace
}  // namespace macekit
