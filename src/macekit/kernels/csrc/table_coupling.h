// The coupling of the edge convolution with a table, for one block of channels and several receivers at once, which
// share its coefficients.
#pragma once

#include "arguments.h"
#include "vector.h"

namespace macekit {
namespace {

// Outputs of some receivers out of their products: products are `stride` numbers apart, outputs follow each other.
template <int receivers, class T, class Lanes>
void couple(const ConvolutionStructure<T>& structure, const T* products, std::int64_t stride, T* out,
            std::int64_t channels, Lanes valid) {
    using V = Register<T>;
    const Sparse<T>& terms = structure.row_terms;
    for (int n = 0; n < terms.rows; ++n) {
        V totals[receivers];
        repeat<receivers>([&](auto i) MACEKIT_LAMBDA { totals[i.value] = V::zero(); });
        for (int t = terms.start[n]; t < terms.start[n + 1]; ++t) {
            const V factor = V::all(terms.value[t]);
            const T* product = products + terms.column[t] * V::lanes;
            repeat<receivers>([&](auto i) MACEKIT_LAMBDA {
                totals[i.value] = fma(factor, V::load(product + i.value * stride), totals[i.value]);
            });
        }
        T* row = out + terms.row[n] * channels;
        repeat<receivers>([&](auto i) MACEKIT_LAMBDA {
            totals[i.value].store(row + i.value * structure.dim_out * channels, valid);
        });
    }
}

// G of some receivers out of the gradients of their outputs, which follow each other; G are `stride` numbers apart.
// The gradients are copied to `rows` first: at the distances they have in memory few of them fit in the first cache.
template <int receivers, class T, class Lanes>
void pull(const ConvolutionStructure<T>& structure, const T* grad, std::int64_t channels, T* rows, T* products,
          std::int64_t stride, Lanes valid) {
    using V = Register<T>;
    for (int row = 0; row < structure.dim_out; ++row)
        repeat<receivers>([&](auto i) MACEKIT_LAMBDA {
            V::load(grad + (static_cast<std::int64_t>(i.value) * structure.dim_out + row) * channels, valid)
                .store(rows + (row * receivers + i.value) * V::lanes);
        });
    const Sparse<T>& terms = structure.product_terms;
    for (int n = 0; n < terms.rows; ++n) {
        V totals[receivers];
        repeat<receivers>([&](auto i) MACEKIT_LAMBDA { totals[i.value] = V::zero(); });
        for (int t = terms.start[n]; t < terms.start[n + 1]; ++t) {
            const V factor = V::all(terms.value[t]);
            const T* row = rows + terms.column[t] * receivers * V::lanes;
            repeat<receivers>([&](auto i) MACEKIT_LAMBDA {
                totals[i.value] = fma(factor, V::load(row + i.value * V::lanes), totals[i.value]);
            });
        }
        repeat<receivers>([&](auto i) MACEKIT_LAMBDA {
            totals[i.value].store(products + terms.row[n] * V::lanes + i.value * stride);
        });
    }
}

}  // namespace
}  // namespace macekit
