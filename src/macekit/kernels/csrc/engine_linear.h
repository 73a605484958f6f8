// Linear maps between channels with one matrix, or with one for every element.
#pragma once

#include "engine.h"
#include "row_products.h"

namespace macekit {
namespace {

// `multiply` with the matrix of every atom's element; atoms are sorted by element.
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
