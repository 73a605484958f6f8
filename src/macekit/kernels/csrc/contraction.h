// The symmetric contraction and its backward passes for some atoms of one species and one block of channels.
//
// In the variables x = (1, a) it is B_M = Σ_groups x_u1 x_u2 Σ_pairs x_v Σ_entries c x_w. Products are made where they are
// needed: what is kept per atom stays in the first-level cache, and coefficients stream through it once for all atoms.
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
    V of[atoms];
    static constexpr int size = atoms * V::lanes;
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
};

template <class T, int atoms>
MACEKIT_INLINE Tile<T, atoms> operator*(const Tile<T, atoms>& x, const Tile<T, atoms>& y) {
    Tile<T, atoms> z;
    repeat<atoms>([&](auto i) MACEKIT_LAMBDA { z.of[i.value] = x.of[i.value] * y.of[i.value]; });
    return z;
}
template <class T, int atoms>
MACEKIT_INLINE Tile<T, atoms> operator*(const Tile<T, atoms>& x, Register<T> y) {
    Tile<T, atoms> z;
    repeat<atoms>([&](auto i) MACEKIT_LAMBDA { z.of[i.value] = x.of[i.value] * y; });
    return z;
}
template <class T, int atoms>
MACEKIT_INLINE Tile<T, atoms> fma(const Tile<T, atoms>& x, const Tile<T, atoms>& y, const Tile<T, atoms>& z) {
    Tile<T, atoms> sum;
    repeat<atoms>([&](auto i) MACEKIT_LAMBDA { sum.of[i.value] = fma(x.of[i.value], y.of[i.value], z.of[i.value]); });
    return sum;
}
template <class T, int atoms>
MACEKIT_INLINE Tile<T, atoms> fma(const Tile<T, atoms>& x, Register<T> y, const Tile<T, atoms>& z) {
    Tile<T, atoms> sum;
    repeat<atoms>([&](auto i) MACEKIT_LAMBDA { sum.of[i.value] = fma(x.of[i.value], y, z.of[i.value]); });
    return sum;
}

// Coefficients and their gradients are [entry][lanes], variables and their gradients [variable][atom][lanes].
template <class T, int atoms>
struct ContractionTile {
    using V = Register<T>;
    using Numbers = Tile<T, atoms>;
    const ContractionStructure& structure;
    const T *x, *dx;  // variables and their tangents
    const T *c, *dc;  // coefficients and their tangents
    T* to_x;          // gradient by variables, or its tangent
    T* to_c;          // gradient by coefficients, or its tangent

    static MACEKIT_INLINE Numbers get(const T* rows, int row) { return Numbers::load(rows + row * Numbers::size); }
    MACEKIT_INLINE V coefficient(const T* rows, int entry) const { return V::load(rows + entry * V::lanes); }
    MACEKIT_INLINE void add_to_x(int row, const Numbers& left, const Numbers& right) const {
        fma(left, right, get(to_x, row)).store(to_x + row * Numbers::size);
    }
    Numbers value(int output) const {
        Numbers total = Numbers::all(V::zero());
        for (int n = structure.output_start[output]; n < structure.output_start[output + 1]; ++n) {
            const Group group = structure.groups[n];
            Numbers sum = Numbers::all(V::zero());
            for (int p = group.begin; p < group.end; ++p) {
                const Pair pair = structure.pairs[p];
                Numbers inner = Numbers::all(V::zero());
                for (int e = pair.begin; e < pair.end; ++e)
                    inner = fma(get(x, structure.entries[e].variable), coefficient(c, e), inner);
                sum = fma(get(x, pair.variable), inner, sum);
            }
            total = fma(get(x, group.first) * get(x, group.second), sum, total);
        }
        return total;
    }

    // Adds to the gradients.
    template <bool by_terms>
    void gradient(int output, const Numbers& grad) const {
        for (int n = structure.output_start[output]; n < structure.output_start[output + 1]; ++n) {
            const Group group = structure.groups[n];
            const Numbers u1 = get(x, group.first), u2 = get(x, group.second), weight = grad * (u1 * u2);
            Numbers sum = Numbers::all(V::zero());
            for (int p = group.begin; p < group.end; ++p) {
                const Pair pair = structure.pairs[p];
                const Numbers v = get(x, pair.variable), weight_v = weight * v;
                Numbers inner = Numbers::all(V::zero());
                for (int e = pair.begin; e < pair.end; ++e) {
                    const int variable = structure.entries[e].variable;
                    const V factor = coefficient(c, e);
                    const Numbers w = get(x, variable);
                    inner = fma(w, factor, inner);
                    fma(weight_v, factor, get(to_x, variable)).store(to_x + variable * Numbers::size);
                    if constexpr (by_terms) {
                        V to_factor = coefficient(to_c, e);
                        repeat<atoms>([&](auto i) MACEKIT_LAMBDA {
                            to_factor = fma(weight_v.of[i.value], w.of[i.value], to_factor);
                        });
                        to_factor.store(to_c + e * V::lanes);
                    }
                }
                sum = fma(v, inner, sum);
                add_to_x(pair.variable, weight, inner);
            }
            const Numbers to_group = grad * sum;
            add_to_x(group.first, to_group, u2);
            add_to_x(group.second, to_group, u1);
        }
    }

    // Adds to the tangents of the gradients; returns that of the value.
    template <bool c_moves>
    Numbers tangent(int output, const Numbers& grad) const {
        Numbers total = Numbers::all(V::zero());
        for (int n = structure.output_start[output]; n < structure.output_start[output + 1]; ++n) {
            const Group group = structure.groups[n];
            const Numbers u1 = get(x, group.first), u2 = get(x, group.second), u = u1 * u2;
            const Numbers du1 = get(dx, group.first), du2 = get(dx, group.second), du = fma(du1, u2, u1 * du2);
            const Numbers weight = grad * u, d_weight = grad * du;
            Numbers sum = Numbers::all(V::zero()), d_sum = sum;
            for (int p = group.begin; p < group.end; ++p) {
                const Pair pair = structure.pairs[p];
                const Numbers v = get(x, pair.variable), dv = get(dx, pair.variable);
                const Numbers weight_v = weight * v, d_weight_v = fma(d_weight, v, weight * dv);
                Numbers inner = Numbers::all(V::zero()), d_inner = inner;
                for (int e = pair.begin; e < pair.end; ++e) {
                    const int variable = structure.entries[e].variable;
                    const V factor = coefficient(c, e);
                    const Numbers w = get(x, variable), dw = get(dx, variable);
                    inner = fma(w, factor, inner);
                    d_inner = fma(dw, factor, d_inner);
                    Numbers to_w = fma(d_weight_v, factor, get(to_x, variable));
                    if constexpr (c_moves) {
                        const V d_factor = coefficient(dc, e);
                        d_inner = fma(w, d_factor, d_inner);
                        to_w = fma(weight_v, d_factor, to_w);
                    }
                    to_w.store(to_x + variable * Numbers::size);
                    V to_factor = coefficient(to_c, e);
                    repeat<atoms>([&](auto i) MACEKIT_LAMBDA {
                        to_factor = fma(d_weight_v.of[i.value], w.of[i.value], to_factor);
                        to_factor = fma(weight_v.of[i.value], dw.of[i.value], to_factor);
                    });
                    to_factor.store(to_c + e * V::lanes);
                }
                sum = fma(v, inner, sum);
                d_sum = fma(v, d_inner, fma(dv, inner, d_sum));
                fma(weight, d_inner, fma(d_weight, inner, get(to_x, pair.variable)))
                    .store(to_x + pair.variable * Numbers::size);
            }
            const Numbers to_group = grad * sum, d_to_group = grad * d_sum;
            add_to_x(group.first, d_to_group, u2);
            add_to_x(group.second, d_to_group, u1);
            add_to_x(group.first, to_group, du2);
            add_to_x(group.second, to_group, du1);
            total = fma(u, d_sum, fma(du, sum, total));
        }
        return total;
    }
};

}  // namespace
}  // namespace macekit
