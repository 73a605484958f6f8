// The symmetric contraction and its backward passes for some atoms of one species and one block of channels.
//
// In the variables x = (1, a) it is B_M = Σ_rows p_r s_r with s = C q: p and q are products of two variables, C is a
// sparse matrix of coefficients. Every sum is made in registers and written once: s by rows, its transpose Cᵀp by
// columns, what a variable receives by variables. The gradient by the coefficients is p qᵀ at the entries of C.
// The second backward does the same with dual numbers (a + ε a', c + ε c') and keeps the parts of ε.
#pragma once

#include "arguments.h"
#include "vector.h"

namespace macekit {
namespace {

// A register for each of some atoms.
template <class T, int atoms>
struct Tile {
    using V = Register<T>;
    static constexpr int size = atoms * V::lanes;
    V of[atoms];
    static MACEKIT_INLINE Tile all(V x) {
        Tile tile;
        repeat<atoms>([&](auto i) MACEKIT_LAMBDA { tile.of[i.value] = x; });
        return tile;
    }
    static MACEKIT_INLINE Tile load(const T* p) {
        Tile tile;
        repeat<atoms>([&](auto i) MACEKIT_LAMBDA { tile.of[i.value] = V::load(p + i.value * V::lanes); });
        return tile;
    }
    MACEKIT_INLINE void store(T* p) const {
        repeat<atoms>([&](auto i) MACEKIT_LAMBDA { of[i.value].store(p + i.value * V::lanes); });
    }
    static MACEKIT_INLINE Tile zero() { return all(V::zero()); }
    MACEKIT_INLINE const Tile& last() const { return *this; }
};

template <class T, int atoms>
MACEKIT_INLINE Tile<T, atoms> operator*(const Tile<T, atoms>& x, const Tile<T, atoms>& y) {
    Tile<T, atoms> z;
    repeat<atoms>([&](auto i) MACEKIT_LAMBDA { z.of[i.value] = x.of[i.value] * y.of[i.value]; });
    return z;
}
template <class T, int atoms>
MACEKIT_INLINE Tile<T, atoms> fma(const Tile<T, atoms>& x, const Tile<T, atoms>& y, const Tile<T, atoms>& z) {
    Tile<T, atoms> sum;
    repeat<atoms>([&](auto i) MACEKIT_LAMBDA { sum.of[i.value] = fma(x.of[i.value], y.of[i.value], z.of[i.value]); });
    return sum;
}
template <class T, int atoms>
MACEKIT_INLINE Tile<T, atoms> fma(Register<T> x, const Tile<T, atoms>& y, const Tile<T, atoms>& z) {
    Tile<T, atoms> sum;
    repeat<atoms>([&](auto i) MACEKIT_LAMBDA { sum.of[i.value] = fma(x, y.of[i.value], z.of[i.value]); });
    return sum;
}

// Values and the factors of ε.
template <class T, int atoms>
struct DualTile {
    using V = Register<T>;
    using Half = Tile<T, atoms>;
    static constexpr int size = 2 * Half::size;
    Half value, change;
    static MACEKIT_INLINE DualTile load(const T* p) { return {Half::load(p), Half::load(p + Half::size)}; }
    MACEKIT_INLINE void store(T* p) const {
        value.store(p);
        change.store(p + Half::size);
    }
    static MACEKIT_INLINE DualTile zero() { return {Half::zero(), Half::zero()}; }
    MACEKIT_INLINE const Half& last() const { return change; }
};

template <class T, int atoms>
MACEKIT_INLINE DualTile<T, atoms> operator*(const DualTile<T, atoms>& x, const DualTile<T, atoms>& y) {
    return {x.value * y.value, fma(x.value, y.change, x.change * y.value)};
}
template <class T, int atoms>
MACEKIT_INLINE DualTile<T, atoms> operator*(const Tile<T, atoms>& x, const DualTile<T, atoms>& y) {
    return {x * y.value, x * y.change};
}
template <class T, int atoms>
MACEKIT_INLINE DualTile<T, atoms> fma(Register<T> x, const DualTile<T, atoms>& y, const DualTile<T, atoms>& z) {
    return {fma(x, y.value, z.value), fma(x, y.change, z.change)};
}

template <class T, int atoms>
MACEKIT_INLINE Tile<T, atoms> operator+(const Tile<T, atoms>& x, const Tile<T, atoms>& y) {
    Tile<T, atoms> sum;
    repeat<atoms>([&](auto i) MACEKIT_LAMBDA { sum.of[i.value] = x.of[i.value] + y.of[i.value]; });
    return sum;
}
template <class T, int atoms>
MACEKIT_INLINE DualTile<T, atoms> operator+(const DualTile<T, atoms>& x, const DualTile<T, atoms>& y) {
    return {x.value + y.value, x.change + y.change};
}

// The sum that `add` makes of begin ... end, in two parts: an addition need not wait for the one before it.
template <class Sum, class Add>
MACEKIT_INLINE Sum sum_of(int begin, int end, const Add& add) {
    Sum even = Sum::zero(), odd = Sum::zero();
    int n = begin;
    for (; n + 1 < end; n += 2) {
        even = add(n, even);
        odd = add(n + 1, odd);
    }
    return (n < end ? add(n, even) : even) + odd;
}

// A coefficient and its factor of ε.
template <class T>
struct DualRegister {
    static constexpr int lanes = 2 * Register<T>::lanes;
    Register<T> value, change;
    static MACEKIT_INLINE DualRegister load(const T* p) {
        return {Register<T>::load(p), Register<T>::load(p + Register<T>::lanes)};
    }
};

template <class T, int atoms>
MACEKIT_INLINE DualTile<T, atoms> fma(DualRegister<T> x, const DualTile<T, atoms>& y, const DualTile<T, atoms>& z) {
    return {fma(x.value, y.value, z.value), fma(x.value, y.change, fma(x.change, y.value, z.change))};
}

// z + x y, of dual numbers the factor of ε.
template <class T, int atoms>
MACEKIT_INLINE Tile<T, atoms> add_last(const Tile<T, atoms>& x, const Tile<T, atoms>& y, const Tile<T, atoms>& z) {
    return fma(x, y, z);
}
template <class T, int atoms>
MACEKIT_INLINE Tile<T, atoms> add_last(const DualTile<T, atoms>& x, const DualTile<T, atoms>& y,
                                       const Tile<T, atoms>& z) {
    return fma(x.value, y.change, fma(x.change, y.value, z));
}

// The same summed over the atoms.
template <class T, int atoms>
MACEKIT_INLINE Register<T> add_sum(const Tile<T, atoms>& x, const Tile<T, atoms>& y, Register<T> z) {
    repeat<atoms>([&](auto i) MACEKIT_LAMBDA { z = fma(x.of[i.value], y.of[i.value], z); });
    return z;
}
template <class T, int atoms>
MACEKIT_INLINE Register<T> add_sum(const DualTile<T, atoms>& x, const DualTile<T, atoms>& y, Register<T> z) {
    return add_sum(x.value, y.change, add_sum(x.change, y.value, z));
}

// The contraction of a tile. N: tiles of numbers or of dual numbers, C: coefficients, the same.
template <class T, class N, class C>
struct ContractionTile {
    using V = Register<T>;
    const ContractionStructure& structure;
    const T* c;   // coefficients, [entry]
    T* x;         // variables
    T* p;         // products of the rows, with the adjoint of their output
    T* products;  // adjoints of s, [row], and q or its adjoints, [column]
    T* to_c;      // gradient by the coefficients, [entry][lanes], which is added to

    static MACEKIT_INLINE N get(const T* numbers, std::uint32_t row) {
        return N::load(numbers + static_cast<std::size_t>(row) * N::size);
    }
    MACEKIT_INLINE N product(const Factors& of) const { return get(x, of.first) * get(x, of.second); }
    MACEKIT_INLINE T* columns() const { return products + structure.rows * N::size; }

    void multiply_columns() const {
        T* const q = columns();
        const Factors* const factors = structure.column_factors;
        for (int k = 0, count = structure.columns; k < count; ++k) product(factors[k]).store(q + k * N::size);
    }

    // The value of an output. Pointers are read before the loops: as far as the compiler knows, a store of numbers may
    // change them.
    auto value(int output) const {
        const T *const q = columns(), *factor = c;
        const std::uint32_t* column = structure.entry_column;
        const int* const row_start = structure.row_start;
        auto total = N::zero().last();
        for (int r = structure.output_start[output], end = structure.output_start[output + 1]; r < end; ++r) {
            const N sum = sum_of<N>(row_start[r], row_start[r + 1], [&](int e, const N& z) MACEKIT_LAMBDA {
                return fma(C::load(factor + e * C::lanes), get(q, column[e]), z);
            });
            total = add_last(product(structure.row_factors[r]), sum, total);
        }
        return total;
    }

    // The rows of an output, given its adjoint; returns its value, if wanted.
    template <bool with_value, bool by_terms, class Grad>
    auto adjoint_rows(int output, const Grad& grad) const {
        const T *const q = columns(), *const factors = c;
        T *const gradient = to_c, *const weights = p, *const adjoints = products;
        const std::uint32_t* const column = structure.entry_column;
        const int* const row_start = structure.row_start;
        auto total = N::zero().last();
        for (int r = structure.output_start[output], end = structure.output_start[output + 1]; r < end; ++r) {
            const N weight = grad * product(structure.row_factors[r]);
            weight.store(weights + r * N::size);
            const N sum = sum_of<N>(row_start[r], row_start[r + 1], [&](int e, const N& z) MACEKIT_LAMBDA {
                const N other = get(q, column[e]);
                if constexpr (by_terms) {
                    T* const to_factor = gradient + e * V::lanes;
                    add_sum(weight, other, V::load(to_factor)).store(to_factor);
                }
                return fma(C::load(factors + e * C::lanes), other, z);
            });
            if constexpr (with_value) total = add_last(product(structure.row_factors[r]), sum, total);
            (grad * sum).store(adjoints + r * N::size);
        }
        return total;
    }

    void adjoint_columns() const {
        T* const q = columns();
        const T *const factors = c, *const weights = p;
        const int* const column_start = structure.column_start;
        const Entry* const by_column = structure.by_column;
        for (int k = 0, count = structure.columns; k < count; ++k) {
            const N sum = sum_of<N>(column_start[k], column_start[k + 1], [&](int n, const N& z) MACEKIT_LAMBDA {
                const Entry entry = by_column[n];
                const C factor = C::load(factors + static_cast<std::size_t>(entry.entry) * C::lanes);
                return fma(factor, get(weights, entry.row), z);
            });
            sum.store(q + k * N::size);
        }
    }

    // The gradient by a component of the input.
    auto gradient(int component) const {
        using Sum = std::decay_t<decltype(N::zero().last())>;
        const Share* const shares = structure.shares;
        const T *const of_products = products, *const variables = x;
        const int begin = structure.share_start[component], end = structure.share_start[component + 1];
        return sum_of<Sum>(begin, end, [&](int n, const Sum& z) MACEKIT_LAMBDA {
            return add_last(get(of_products, shares[n].product), get(variables, shares[n].variable), z);
        });
    }
};

}  // namespace
}  // namespace macekit
