// The symmetric contraction and its backward passes for some atoms of one species and one block of channels.
//
// In the variables x = (1, a) it is B_M = Σ_groups x_u1 x_u2 Σ_entries c x_v1 x_v2. Products are made where they are
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
    MACEKIT_INLINE V total() const {
        V sum = of[0];
        repeat<atoms - 1>([&](auto i) MACEKIT_LAMBDA { sum = sum + of[i.value + 1]; });
        return sum;
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
    MACEKIT_INLINE void add_to_c(int entry, const Numbers& weight) const {
        (V::load(to_c + entry * V::lanes) + weight.total()).store(to_c + entry * V::lanes);
    }

    Numbers value(int output) const {
        Numbers total = Numbers::all(V::zero());
        for (int n = structure.output_start[output]; n < structure.output_start[output + 1]; ++n) {
            const Group group = structure.groups[n];
            Numbers sum = Numbers::all(V::zero());
            for (int e = group.begin; e < group.end; ++e) {
                const Entry entry = structure.entries[e];
                sum = fma(get(x, entry.first) * get(x, entry.second), coefficient(c, e), sum);
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
            for (int e = group.begin; e < group.end; ++e) {
                const Entry entry = structure.entries[e];
                const V factor = coefficient(c, e);
                const Numbers v1 = get(x, entry.first), v2 = get(x, entry.second), product = v1 * v2;
                sum = fma(product, factor, sum);
                if constexpr (by_terms) add_to_c(e, weight * product);
                const Numbers weighted = weight * factor;
                add_to_x(entry.first, weighted, v2);
                add_to_x(entry.second, weighted, v1);
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
            for (int e = group.begin; e < group.end; ++e) {
                const Entry entry = structure.entries[e];
                const V factor = coefficient(c, e);
                const Numbers v1 = get(x, entry.first), v2 = get(x, entry.second), v = v1 * v2;
                const Numbers dv1 = get(dx, entry.first), dv2 = get(dx, entry.second), dv = fma(dv1, v2, v1 * dv2);
                const Numbers weighted = weight * factor;
                Numbers d_weighted = d_weight * factor;
                sum = fma(v, factor, sum);
                d_sum = fma(dv, factor, d_sum);
                if constexpr (c_moves) {
                    const V d_factor = coefficient(dc, e);
                    d_sum = fma(v, d_factor, d_sum);
                    d_weighted = fma(weight, d_factor, d_weighted);
                }
                add_to_c(e, fma(d_weight, v, weight * dv));
                add_to_x(entry.first, d_weighted, v2);
                add_to_x(entry.second, d_weighted, v1);
                add_to_x(entry.first, weighted, dv2);
                add_to_x(entry.second, weighted, dv1);
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
