// Couplings (l_in, l_sh -> l_out) of sent features of one degree, known when the kernels are compiled: their order, which
// products of components occur in them, and how they are grouped so that the sums of a group stay in registers.
#pragma once

#include "vector.h"

namespace macekit {
namespace {

// Whether the components a of degree l and b of degree k couple to any component of degree n. Components -l ... l are
// sines and cosines of |m| times the azimuth, so a product has the frequencies |a| ± |b|; a sine of frequency 0 vanishes.
constexpr bool couples(int a, int b, int n) {
    const int x = a < 0 ? -a : a, y = b < 0 ? -b : b;
    const int sum = x + y, difference = x < y ? y - x : x - y;
    const bool is_sine = (a < 0) != (b < 0);
    return (sum <= n && !(is_sine && sum == 0)) || (difference <= n && !(is_sine && difference == 0));
}

// Paths by ascending l_sh, then l_out; `kernels/engine.py` has the same order.
template <int l_in, int max_ell, int group_size>
struct Paths {
    static constexpr int inputs = 2 * l_in + 1;
    static constexpr int kMost = (max_ell + 1) * (l_in + 1);
    int count = 0, groups = 0, products = 0;
    int l_sh[kMost] = {}, l_out[kMost] = {}, first_product[kMost] = {}, group[kMost] = {}, first_sum[kMost] = {};
    int sums[kMost] = {};  // by group

    constexpr Paths() {
        for (int sh = 0; sh <= max_ell; ++sh)
            for (int out = sh < l_in ? l_in - sh : sh - l_in; out <= sh + l_in && out <= max_ell; out += 2) {
                l_sh[count] = sh;
                l_out[count] = out;
                first_product[count] = products;
                products += (2 * sh + 1) * inputs;
                ++count;
            }
        for (int p = 0; p < count; ++p) {
            const int size = size_of(p);
            int chosen = groups;
            for (int g = groups - 1; g >= 0; --g)
                if (sums[g] + size <= group_size) chosen = g;
            if (chosen == groups) ++groups;
            group[p] = chosen;
            first_sum[p] = sums[chosen];
            sums[chosen] += size;
        }
    }
    constexpr bool has(int p, int m, int n) const { return couples(m - l_sh[p], n - l_in, l_out[p]); }
    constexpr int size_of(int p) const {
        int size = 0;
        for (int m = 0; m <= 2 * l_sh[p]; ++m)
            for (int n = 0; n < inputs; ++n) size += has(p, m, n);
        return size;
    }
    constexpr int sum_of(int p, int m, int n) const {
        int index = first_sum[p];
        for (int i = 0; i < m; ++i)
            for (int j = 0; j < inputs; ++j) index += has(p, i, j);
        for (int j = 0; j < n; ++j) index += has(p, m, j);
        return index;
    }
    constexpr int product_of(int p, int m, int n) const { return first_product[p] + m * inputs + n; }
    constexpr bool is_first(int p, int m, int n) const {  // of the products of component n
        for (int i = 0; i < m; ++i)
            if (has(p, i, n)) return false;
        return has(p, m, n);
    }
};

constexpr int products_of(int l_in, int max_ell) {
    int products = 0;
    for (int sh = 0; sh <= max_ell; ++sh)
        for (int out = sh < l_in ? l_in - sh : sh - l_in; out <= sh + l_in && out <= max_ell; out += 2)
            products += (2 * sh + 1) * (2 * l_in + 1);
    return products;
}

constexpr int paths_of(int l_in, int max_ell) {
    int paths = 0;
    for (int sh = 0; sh <= max_ell; ++sh)
        for (int out = sh < l_in ? l_in - sh : sh - l_in; out <= sh + l_in && out <= max_ell; out += 2) ++paths;
    return paths;
}

}  // namespace
}  // namespace macekit
