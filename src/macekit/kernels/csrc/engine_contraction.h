// Polynomials of the atomic basis for one block of channels and several atoms of one element at once: the symmetric
// contraction, and its gradient, which is a list of polynomials too.
//
// A program lists the monomials as nested sums, one sum after another for every polynomial:
//   sum := number of leaves, for each: variable, term; number of branches, for each: variable, term or -1, sum
// Σ = Σ_leaves c v + Σ_branches v (c + Σ). `kernels/monomial_tree.py` makes the trees.
#pragma once

#include "engine.h"
#include "vector.h"

namespace macekit {
namespace {

constexpr int kLongestMonomial = 4;
constexpr int kTile = 8;  // atoms, or atoms times blocks, at once: as many independent sums

// What is evaluated at once: `atoms` of one element for `blocks` of channels. Numbers are [row][block][atom].
template <class T>
struct Tile {
    const T* coefficients;
    std::int64_t coefficient_block;
    T* variables;
    T* out;  // [atom][row] of the first block
    std::int64_t out_atom, out_block;
};

template <class T, int atoms, int blocks, int depth>
MACEKIT_INLINE void add_sum(const int*& at, const Tile<T>& tile, Register<T>* sums) {
    using V = Register<T>;
    constexpr int count = atoms * blocks;
    constexpr std::int64_t size = count * V::lanes;
    for (int leaves = *at++; leaves > 0; --leaves, at += 2) {
        const T* variable = tile.variables + at[0] * size;
        const T* coefficient = tile.coefficients + static_cast<std::int64_t>(at[1]) * V::lanes;
        repeat<blocks>([&](auto b) MACEKIT_LAMBDA {
            const V c = V::load(coefficient + decltype(b)::value * tile.coefficient_block);
            repeat<atoms>([&](auto a) MACEKIT_LAMBDA {
                constexpr int n = decltype(b)::value * atoms + decltype(a)::value;
                sums[n] = fma(c, V::load(variable + n * V::lanes), sums[n]);
            });
        });
    }
    for (int branches = *at++; branches > 0; --branches) {
        const T* variable = tile.variables + *at++ * size;
        const int term = *at++;
        V inner[count];
        repeat<blocks>([&](auto b) MACEKIT_LAMBDA {
            const V c = term < 0 ? V::zero()
                                 : V::load(tile.coefficients + static_cast<std::int64_t>(term) * V::lanes +
                                           decltype(b)::value * tile.coefficient_block);
            repeat<atoms>([&](auto a) MACEKIT_LAMBDA { inner[decltype(b)::value * atoms + decltype(a)::value] = c; });
        });
        if constexpr (depth > 1) add_sum<T, atoms, blocks, depth - 1>(at, tile, inner);
        repeat<count>([&](auto nn) MACEKIT_LAMBDA {
            constexpr int n = decltype(nn)::value;
            sums[n] = fma(inner[n], V::load(variable + n * V::lanes), sums[n]);
        });
    }
}

template <class T, int atoms, int blocks>
void evaluate_polynomials(const int* program, int polynomials, const Tile<T>& tile) {
    using V = Register<T>;
    for (int row = 0; row < polynomials; ++row) {
        V sums[atoms * blocks];
        repeat<atoms * blocks>([&](auto n) MACEKIT_LAMBDA { sums[decltype(n)::value] = V::zero(); });
        add_sum<T, atoms, blocks, kLongestMonomial>(program, tile, sums);
        repeat<atoms * blocks>([&](auto nn) MACEKIT_LAMBDA {
            constexpr int n = decltype(nn)::value;
            sums[n].store(tile.out + n / atoms * tile.out_block + n % atoms * tile.out_atom + row * V::lanes);
        });
    }
}

// Rows [atom][row] of every block as variables.
template <class T, int atoms, int blocks>
MACEKIT_INLINE void gather_variables(const T* rows, std::int64_t atom, std::int64_t block, int number, T* variables) {
    using V = Register<T>;
    constexpr int count = atoms * blocks;
    for (int row = 0; row < number; ++row)
        repeat<count>([&](auto nn) MACEKIT_LAMBDA {
            constexpr int n = decltype(nn)::value;
            V::load(rows + n / atoms * block + n % atoms * atom + row * V::lanes).store(variables + (row * count + n) * V::lanes);
        });
}

// Adds variable · gradient of the first `components` rows to `along` of every atom.
template <class T, int atoms, int blocks>
MACEKIT_INLINE void add_along(const Tile<T>& tile, int components, double* along) {
    using V = Register<T>;
    constexpr int count = atoms * blocks;
    for (int n = 0; n < count; ++n) {
        const T* gradient = tile.out + n / atoms * tile.out_block + n % atoms * tile.out_atom;
        V sum = V::zero();
        for (int k = 0; k < components; ++k)
            sum = fma(V::load(gradient + k * V::lanes), V::load(tile.variables + (k * count + n) * V::lanes), sum);
        along[n % atoms] += static_cast<double>(sum.sum());
    }
}

}  // namespace
}  // namespace macekit
