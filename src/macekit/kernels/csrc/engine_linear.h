// Linear maps between channels: rows of several atoms at once times packed matrices.
#pragma once

#include "engine.h"
#include "workspace.h"
#include "vector.h"

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

// `count` gathered rows times the packed columns `first` and `second` (or one alone).
template <class T, int count, bool two>
MACEKIT_INLINE void multiply_rows(const T* rows, std::int64_t depth, const T* first, const T* second, T* const* out,
                                  std::int64_t to_first, std::int64_t to_second, bool adds) {
    using V = Register<T>;
    V sums[count][2];
    repeat<count>([&](auto rr) MACEKIT_LAMBDA {
        constexpr int r = decltype(rr)::value;
        sums[r][0] = adds ? V::load(out[r] + to_first) : V::zero();
        if constexpr (two) sums[r][1] = adds ? V::load(out[r] + to_second) : V::zero();
    });
    for (std::int64_t k = 0; k < depth; ++k) {
        const V x = V::load(first + k * V::lanes), y = two ? V::load(second + k * V::lanes) : V::zero();
        repeat<count>([&](auto rr) MACEKIT_LAMBDA {
            constexpr int r = decltype(rr)::value;
            const V a = V::all(rows[r * depth + k]);
            sums[r][0] = fma(a, x, sums[r][0]);
            if constexpr (two) sums[r][1] = fma(a, y, sums[r][1]);
        });
    }
    repeat<count>([&](auto rr) MACEKIT_LAMBDA {
        constexpr int r = decltype(rr)::value;
        sums[r][0].store(out[r] + to_first);
        if constexpr (two) sums[r][1].store(out[r] + to_second);
    });
}

template <class T, int count>
void multiply_panel(const T* rows, std::int64_t depth, const T* packed, T* const* out, const std::int64_t* chunk,
                    int outer, bool adds) {
    const std::int64_t column = depth * Register<T>::lanes;
    int o = 0;
    for (; o + 2 <= outer; o += 2)
        multiply_rows<T, count, true>(rows, depth, packed + o * column, packed + (o + 1) * column, out, chunk[o],
                                      chunk[o + 1], adds);
    if (o < outer)
        multiply_rows<T, count, false>(rows, depth, packed + o * column, nullptr, out, chunk[o], 0, adds);
}

// out[n, m] (+)= in[n, m] W for atoms begin ... end and `components` rows of each; scratch holds a panel of rows.
template <class T>
void multiply(const T* packed, int inner, int outer, std::int64_t begin, std::int64_t end, int components,
              const FeatureRows<const T>& in, const FeatureRows<T>& out, bool adds, T* scratch) {
    using V = Register<T>;
    const std::int64_t depth = static_cast<std::int64_t>(inner) * V::lanes;
    std::int64_t atom = begin;
    int component = 0;
    while (atom < end) {
        T* targets[kRowsAtOnce];
        int count = 0;
        for (; count < kRowsAtOnce && atom < end; ++count) {
            const T* source = in.data + atom * in.atom + component * in.component;
            for (int c = 0; c < inner; ++c)
                V::load(source + in.chunk[c]).store(scratch + count * depth + c * V::lanes);
            targets[count] = out.data + atom * out.atom + component * out.component;
            if (++component == components) {
                component = 0;
                ++atom;
            }
        }
        switch (count) {
#define MACEKIT_PANEL(n) \
    case n: multiply_panel<T, n>(scratch, depth, packed, targets, out.chunk, outer, adds); break;
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
}

// The same with the matrix of every atom's element; atoms are sorted by element.
template <class T>
void multiply_by_element(const EngineLinear<T>& map, bool transposed, const EngineSystem& system, int elements,
                         std::int64_t begin, std::int64_t end, int components, const FeatureRows<const T>& in,
                         const FeatureRows<T>& out, bool adds, T* scratch) {
    const T* packed = transposed ? map.backward : map.forward;
    const int inner = transposed ? map.outer : map.inner, outer = transposed ? map.inner : map.outer;
    if (map.variants == 1) {
        multiply(packed, inner, outer, begin, end, components, in, out, adds, scratch);
        return;
    }
    const std::int64_t lanes = Register<T>::lanes, size = inner * lanes * outer * lanes;
    for (int z = 0; z < elements; ++z) {
        const std::int64_t first = system.element_start[z] > begin ? system.element_start[z] : begin;
        const std::int64_t last = smaller(system.element_start[z + 1], end);
        if (first < last) multiply(packed + z * size, inner, outer, first, last, components, in, out, adds, scratch);
    }
}

}  // namespace
}  // namespace macekit
