// The symmetric contraction and its backward passes, as polynomials evaluated along trees of monomials (Horner).
//
// The value of a node is v = c + Σ_children a[factor] v_child; that of the root of M is B_M. Its weight is w = g_M times
// the factors on the way from the root, which is the gradient by its coefficient; the gradient by a[factor of a child]
// is w v_child. The second backward does the same with dual numbers (a + ε a', c + ε c') and keeps the parts of ε.
#pragma once

#include "arguments.h"
#include "vector.h"

namespace macekit {
namespace {

constexpr int kAtomsAtOnce = 4;  // of one species: they share coefficients, and hide each other's latencies

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

// One tile of atoms and one block of channels. Coefficients and their gradients are [node][lanes], a and its gradient
// [component][atom][lanes].
template <class T, int atoms>
struct ContractionTile {
    using V = Register<T>;
    using Numbers = Tile<T, atoms>;
    const Node* nodes;
    const T *a, *da;
    const T *c, *dc;  // dc null: zero
    T *to_a, *to_c;

    MACEKIT_INLINE V coefficient(int node) const { return V::load(c + node * V::lanes); }
    MACEKIT_INLINE V d_coefficient(int node) const { return dc ? V::load(dc + node * V::lanes) : V::zero(); }
    MACEKIT_INLINE Numbers factor(int component) const { return Numbers::load(a + component * Numbers::size); }
    MACEKIT_INLINE Numbers d_factor(int component) const { return Numbers::load(da + component * Numbers::size); }
    MACEKIT_INLINE void add_to_c(int node, const Numbers& weight) const {
        (V::load(to_c + node * V::lanes) + weight.total()).store(to_c + node * V::lanes);
    }

    // Value of a node with at most `depth` factors below it.
    template <int depth>
    Numbers value(int node) const {
        Numbers v = Numbers::all(coefficient(node));
        for (int child = nodes[node].first; child < nodes[node].end; ++child) {
            if constexpr (depth == 1)
                v = fma(factor(nodes[child].factor), coefficient(child), v);
            else
                v = fma(factor(nodes[child].factor), value<depth - 1>(child), v);
        }
        return v;
    }

    // The same, adding to the gradients.
    template <int depth>
    Numbers gradient(int node, const Numbers& weight) const {
        Numbers v = Numbers::all(coefficient(node));
        add_to_c(node, weight);
        for (int child = nodes[node].first; child < nodes[node].end; ++child) {
            T* to_factor = to_a + nodes[child].factor * Numbers::size;
            const Numbers x = factor(nodes[child].factor);
            if constexpr (depth == 1) {
                const V below = coefficient(child);
                add_to_c(child, weight * x);
                fma(weight, below, Numbers::load(to_factor)).store(to_factor);
                v = fma(x, below, v);
            } else {
                const Numbers below = gradient<depth - 1>(child, weight * x);
                fma(weight, below, Numbers::load(to_factor)).store(to_factor);
                v = fma(x, below, v);
            }
        }
        return v;
    }

    struct Dual {
        Numbers value, tangent;
    };

    // The same with dual numbers, adding the tangents of the gradients.
    template <int depth>
    Dual tangent_gradient(int node, const Dual& weight) const {
        Dual v = {Numbers::all(coefficient(node)), Numbers::all(d_coefficient(node))};
        add_to_c(node, weight.tangent);
        for (int child = nodes[node].first; child < nodes[node].end; ++child) {
            T* to_factor = to_a + nodes[child].factor * Numbers::size;
            const Numbers x = factor(nodes[child].factor), dx = d_factor(nodes[child].factor);
            const Dual weight_below = {weight.value * x, fma(weight.value, dx, weight.tangent * x)};
            if constexpr (depth == 1) {
                const V below = coefficient(child);
                add_to_c(child, weight_below.tangent);
                Numbers to = fma(weight.tangent, below, Numbers::load(to_factor));
                v.value = fma(x, below, v.value);
                v.tangent = fma(dx, below, v.tangent);
                if (dc) {
                    const V d_below = d_coefficient(child);
                    to = fma(weight.value, d_below, to);
                    v.tangent = fma(x, d_below, v.tangent);
                }
                to.store(to_factor);
            } else {
                const Dual below = tangent_gradient<depth - 1>(child, weight_below);
                fma(weight.value, below.tangent, fma(weight.tangent, below.value, Numbers::load(to_factor)))
                    .store(to_factor);
                v.value = fma(x, below.value, v.value);
                v.tangent = fma(x, below.tangent, fma(dx, below.value, v.tangent));
            }
        }
        return v;
    }
};

}  // namespace
}  // namespace macekit
