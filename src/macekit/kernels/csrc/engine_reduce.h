// Sums over the lanes of many registers at once: pairs are merged as soon as both are there, so that few are alive.
#pragma once

#include "vector.h"

namespace macekit {
namespace {

// Adds the sum of register n to target[n], n = count - 1 ... 0 in this order; target is padded to whole registers.
template <class T, int count>
class Reducer {
    using V = Register<T>;
    static constexpr int levels = kMerges<T>;
    T* target_;
    V waiting_[levels];

    template <int n, int level>
    MACEKIT_INLINE void merged(V x) {
        if constexpr (level == levels) {
            T* place = target_ + n * V::lanes;
            (V::load(place) + x).store(place);
        } else if constexpr (n % 2 == 1) {
            waiting_[level] = x;
        } else {
            merged<n / 2, level + 1>(merge<level>(x, waiting_[level]));
        }
    }

   public:
    MACEKIT_INLINE explicit Reducer(T* target) : target_(target) {
        repeat<levels>([&](auto level) MACEKIT_LAMBDA { waiting_[decltype(level)::value] = V::zero(); });
    }
    template <int n>
    MACEKIT_INLINE void add(V x) {
        if constexpr (n == count - 1 && n % V::lanes != V::lanes - 1) {  // what is missing is zero
            merged<n, 0>(x);
        } else {
            if constexpr (n % V::lanes == V::lanes - 1)
                repeat<levels>([&](auto level) MACEKIT_LAMBDA { waiting_[decltype(level)::value] = V::zero(); });
            merged<n, 0>(x);
        }
    }
};

}  // namespace
}  // namespace macekit
