// The exponential function of many numbers. Sources that use it are compiled so that comparisons become minima and maxima.
#pragma once

#include <cstdint>
#include <cstring>

#include "repeat.h"

namespace macekit {
namespace {

// How numbers are made of bits.
template <class T>
struct Bits;
template <>
struct Bits<float> {
    using Integer = std::uint32_t;
    static constexpr float rounding = 12582912.0f, largest = 87.0f;  // 1.5 2^23; exp(88.7) overflows
    static constexpr int mantissa = 23, terms = 7;
};
template <>
struct Bits<double> {
    using Integer = std::uint64_t;
    static constexpr double rounding = 6755399441055744.0, largest = 708.0;  // 1.5 2^52; exp(709.8) overflows
    static constexpr int mantissa = 52, terms = 13;
};

// exp(x) = 2^n exp(r) with |r| <= log(2)/2 by its series; of x within +-`largest`, NaN stays. Loops over it are vectorised.
template <class T>
MACEKIT_INLINE T exponential(T x) {
    using Integer = typename Bits<T>::Integer;
    constexpr T rounding = Bits<T>::rounding, largest = Bits<T>::largest;
    constexpr T log2 = static_cast<T>(0.693359375), rest = static_cast<T>(-2.12194440054690583e-4);  // log(2), 9 bits first
    x = x > largest ? largest : x;
    x = x < -largest ? -largest : x;
    const T shifted = x * static_cast<T>(1.44269504088896340736) + rounding;  // n is in its last bits
    const T n = shifted - rounding;
    const T r = (x - n * log2) - n * rest;
    T sum = 1;
    repeat<Bits<T>::terms>([&](auto k) MACEKIT_LAMBDA { sum = 1 + sum * r * (T(1) / (Bits<T>::terms - k.value)); });
    Integer bits, power;
    std::memcpy(&bits, &sum, sizeof(T));
    std::memcpy(&power, &shifted, sizeof(T));
    bits += power << Bits<T>::mantissa;
    std::memcpy(&sum, &bits, sizeof(T));
    return sum;
}

}  // namespace
}  // namespace macekit
