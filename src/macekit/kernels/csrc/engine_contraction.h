// The symmetric contraction of one block of channels, for several atoms of one element at once.
//
// A program lists the monomials as nested sums, one after another for every output component:
//   sum := number of leaves, their components, number of branches, and for each: component, whether a term ends here, sum
// Σ = Σ_leaves x c + Σ_branches x (c + Σ). Coefficients are read in this order.
#pragma once

#include "engine.h"
#include "vector.h"

namespace macekit {
namespace {

constexpr int kLongestMonomial = 4;
constexpr int kTile = kRegisters == 32 ? 8 : 4;       // atoms at once, forward
constexpr int kPullTile = kRegisters == 32 ? 4 : 2;   // and backward
constexpr int kTileGap = 2048 / 4;

template <class T>
struct Cursor {
    const std::int16_t* program;
    const T* coefficient;
};

template <class T, int count, int depth>
MACEKIT_INLINE void add_sum(Cursor<T>& at, const T* x, std::int64_t stride, Register<T>* sums) {
    using V = Register<T>;
    for (int leaves = *at.program++; leaves > 0; --leaves) {
        const T* factor = x + *at.program++ * V::lanes;
        const V c = V::load(at.coefficient);
        at.coefficient += V::lanes;
        repeat<count>([&](auto a) MACEKIT_LAMBDA {
            constexpr int n = decltype(a)::value;
            sums[n] = fma(c, V::load(factor + n * stride), sums[n]);
        });
    }
    for (int branches = *at.program++; branches > 0; --branches) {
        const T* factor = x + *at.program++ * V::lanes;
        V inner[count];
        if (*at.program++) {
            const V c = V::load(at.coefficient);
            at.coefficient += V::lanes;
            repeat<count>([&](auto a) MACEKIT_LAMBDA { inner[decltype(a)::value] = c; });
        } else {
            repeat<count>([&](auto a) MACEKIT_LAMBDA { inner[decltype(a)::value] = V::zero(); });
        }
        if constexpr (depth > 1) add_sum<T, count, depth - 1>(at, x, stride, inner);
        repeat<count>([&](auto a) MACEKIT_LAMBDA {
            constexpr int n = decltype(a)::value;
            sums[n] = fma(inner[n], V::load(factor + n * stride), sums[n]);
        });
    }
}

// The sums, and their derivatives times `weight` into to_x; x and to_x are [component][atom].
template <class T, int count, int depth>
MACEKIT_INLINE void pull_sum(Cursor<T>& at, const T* x, T* to_x, const Register<T>* weight, Register<T>* sums) {
    using V = Register<T>;
    for (int leaves = *at.program++; leaves > 0; --leaves) {
        const std::int64_t component = *at.program++ * (count * V::lanes);
        const V c = V::load(at.coefficient);
        at.coefficient += V::lanes;
        repeat<count>([&](auto a) MACEKIT_LAMBDA {
            constexpr int n = decltype(a)::value;
            T* place = to_x + component + n * V::lanes;
            sums[n] = fma(c, V::load(x + component + n * V::lanes), sums[n]);
            fma(c, weight[n], V::load(place)).store(place);
        });
    }
    for (int branches = *at.program++; branches > 0; --branches) {
        const std::int64_t component = *at.program++ * (count * V::lanes);
        V inner[count], product[count];
        const bool ends = *at.program++ != 0;
        const V c = ends ? V::load(at.coefficient) : V::zero();
        if (ends) at.coefficient += V::lanes;
        repeat<count>([&](auto a) MACEKIT_LAMBDA {
            constexpr int n = decltype(a)::value;
            inner[n] = c;
            product[n] = weight[n] * V::load(x + component + n * V::lanes);
        });
        if constexpr (depth > 1) pull_sum<T, count, depth - 1>(at, x, to_x, product, inner);
        repeat<count>([&](auto a) MACEKIT_LAMBDA {
            constexpr int n = decltype(a)::value;
            T* place = to_x + component + n * V::lanes;
            sums[n] = fma(inner[n], V::load(x + component + n * V::lanes), sums[n]);
            fma(inner[n], weight[n], V::load(place)).store(place);
        });
    }
}

// Polynomials [atom][dim_basis] of `count` consecutive atoms x [atom][components].
template <class T, int count>
void contract_atoms(const std::int16_t* program, const T* coefficients, int dim_basis, const T* x, std::int64_t stride,
                    T* out) {
    using V = Register<T>;
    Cursor<T> at = {program, coefficients};
    for (int row = 0; row < dim_basis; ++row) {
        V sums[count];
        repeat<count>([&](auto a) MACEKIT_LAMBDA { sums[decltype(a)::value] = V::zero(); });
        add_sum<T, count, kLongestMonomial>(at, x, stride, sums);
        repeat<count>([&](auto a) MACEKIT_LAMBDA {
            constexpr int n = decltype(a)::value;
            sums[n].store(out + (n * dim_basis + row) * V::lanes);
        });
    }
}

// Replaces x [atom][components] of `count` consecutive atoms by the gradient of Σ grad · polynomials; adds x · gradient
// to `along`, unless that is null.
//
// The sums are taken in a tile [component][atom]. Gradients lie half of 4096 bytes from where they would start, so that
// what is stored for a component seldom shares the low bits of its address with what is loaded for another soon after.
template <class T, int count>
void pull_atoms(const std::int16_t* program, const T* coefficients, int dim_basis, T* x, int components, const T* grad,
                T* tile, double* along) {
    using V = Register<T>;
    T* to_tile = tile + components * count * V::lanes + kTileGap;
    for (int k = 0; k < components; ++k)
        repeat<count>([&](auto a) MACEKIT_LAMBDA {
            constexpr int n = decltype(a)::value;
            V::load(x + (n * components + k) * V::lanes).store(tile + (k * count + n) * V::lanes);
            V::zero().store(to_tile + (k * count + n) * V::lanes);
        });
    Cursor<T> at = {program, coefficients};
    for (int row = 0; row < dim_basis; ++row) {
        V sums[count], weight[count];
        repeat<count>([&](auto a) MACEKIT_LAMBDA {
            constexpr int n = decltype(a)::value;
            sums[n] = V::zero();
            weight[n] = V::load(grad + (n * dim_basis + row) * V::lanes);
        });
        pull_sum<T, count, kLongestMonomial>(at, tile, to_tile, weight, sums);
    }
    repeat<count>([&](auto a) MACEKIT_LAMBDA {
        constexpr int n = decltype(a)::value;
        V sum = V::zero();
        for (int k = 0; k < components; ++k) {
            const V gradient = V::load(to_tile + (k * count + n) * V::lanes);
            sum = fma(gradient, V::load(tile + (k * count + n) * V::lanes), sum);
            gradient.store(x + (n * components + k) * V::lanes);
        }
        if (along != nullptr) along[n] += static_cast<double>(sum.sum());
    });
}

}  // namespace
}  // namespace macekit
