// What all registers are made with: code that is written out for every number, and how much of a register is there.
#pragma once

namespace macekit {
namespace {

#define MACEKIT_INLINE inline __attribute__((always_inline))

template <int number>
struct Number {
    static constexpr int value = number;
};

#define MACEKIT_LAMBDA __attribute__((always_inline))

// Calls function(Number<0>) ... function(Number<count - 1>), written out: an array that is indexed by these numbers is
// kept in registers, where GCC leaves it in memory if it is indexed by a loop.
template <int count, class Function>
MACEKIT_INLINE void repeat(const Function& function) {
    if constexpr (count > 0) {
        repeat<count - 1>(function);
        function(Number<count - 1>());
    }
}

// How many channels of a block exist: all of a register, or the remainder at the end of a row.
struct Full {};
struct Partial {
    int count;
};

template <class T>
struct Register;

}  // namespace
}  // namespace macekit
