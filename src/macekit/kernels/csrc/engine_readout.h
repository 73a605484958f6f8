// Scalars of one atom out of what was read of its features, and their derivatives, in float64.
#pragma once

#include <cmath>

#include "engine.h"

namespace macekit {
namespace {

constexpr int kMostColumns = 1024;

inline double activate(int kind, double norm, double x, double& slope) {
    switch (kind) {
        case kSilu: {
            const double gate = 1.0 / (1.0 + std::exp(-x));
            slope = norm * gate * (1.0 + x * (1.0 - gate));
            return norm * x * gate;
        }
        case kTanh: {
            const double value = std::tanh(x);
            slope = norm * (1.0 - value * value);
            return norm * value;
        }
        case kAbs:
            slope = x > 0.0 ? norm : (x < 0.0 ? -norm : 0.0);
            return norm * std::fabs(x);
        default:
            slope = norm;
            return norm * x;
    }
}

// Energies [outputs] out of columns: hidden units, then linear outputs; slopes: derivatives of seed · energies by them.
template <class T>
void perceptron(const EngineReadout<T>& readout, const double* columns, double* slopes, double* energies,
                const double* offset) {
    const int H = readout.hidden, outputs = readout.outputs;
    double first[kMostColumns], second[kMostColumns], second_slope[kMostColumns];
    for (int h = 0; h < H; ++h) first[h] = activate(readout.activation, readout.norm, columns[h], slopes[h]);
    const double* units = first;
    if (readout.middle != nullptr) {
        for (int h = 0; h < H; ++h) {
            double sum = readout.middle_bias[h];
            for (int n = 0; n < H; ++n) sum += first[n] * readout.middle[n * H + h];
            second[h] = activate(readout.activation, readout.norm, sum, second_slope[h]);
        }
        units = second;
    }
    double by_unit[kMostColumns];
    for (int h = 0; h < H; ++h) by_unit[h] = 0.0;
    for (int o = 0; o < outputs; ++o) {
        double sum = columns[H + o] + readout.last_bias[o];
        const double seed = readout.seed[o] * readout.scale[o];
        for (int h = 0; h < H; ++h) {
            sum += units[h] * readout.last[h * outputs + o];
            by_unit[h] += seed * readout.last[h * outputs + o];
        }
        energies[o] = offset[o] + readout.scale[o] * sum;
        slopes[H + o] = seed;
    }
    if (readout.middle != nullptr) {
        double by_first[kMostColumns];
        for (int n = 0; n < H; ++n) {
            by_first[n] = 0.0;
            for (int h = 0; h < H; ++h) by_first[n] += by_unit[h] * second_slope[h] * readout.middle[n * H + h];
        }
        for (int n = 0; n < H; ++n) by_unit[n] = by_first[n];
    }
    for (int h = 0; h < H; ++h) slopes[h] *= by_unit[h];
}

}  // namespace
}  // namespace macekit
