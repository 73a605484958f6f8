// Distances, directions and spherical harmonics of edges, a register of edges at a time, and their derivatives.
#pragma once

#include <cmath>

#include "engine.h"
#include "vector.h"

namespace macekit {
namespace {

constexpr double kShortestEdge = 1e-8;
constexpr int kMostHarmonics = (kHighestEll + 1) * (kHighestEll + 1);

// What is kept of the edges of a chunk of atoms.
template <class T>
struct EdgeGeometry {
    double* unit;  // [edge][4]: direction, 1 / length
    int* row;      // of the radial tables
    T* fraction;
    T* y;  // [edge][width]
    std::int64_t width;
};

// Harmonics of up to a register of directions; y has kMostHarmonics registers.
template <class T>
MACEKIT_INLINE void harmonics_of(const EngineModel<T>& model, const Register<T>* direction, Register<T>* y) {
    using V = Register<T>;
    y[0] = V::all(1);
    for (int a = 0; a < 3 && model.max_ell > 0; ++a) y[1 + a] = V::all(static_cast<T>(1.7320508075688772)) * direction[a];
    const EngineSparse<T>& raising = model.raising;
    for (int r = 0; r < raising.rows; ++r) {
        V sum = V::zero();
        for (int n = raising.start[r]; n < raising.start[r + 1]; ++n) {
            const int column = raising.column[n];
            sum = fma(V::all(raising.value[n]) * y[column >> 5], y[column & 31], sum);
        }
        y[4 + r] = sum;
    }
}

// Gradients by the harmonics to gradients by the direction.
template <class T>
MACEKIT_INLINE void pull_harmonics(const EngineModel<T>& model, const Register<T>* y, Register<T>* to_y,
                                   Register<T>* to_direction) {
    using V = Register<T>;
    const EngineSparse<T>& raising = model.raising;
    for (int r = raising.rows - 1; r >= 0; --r)
        for (int n = raising.start[r]; n < raising.start[r + 1]; ++n) {
            const int first = raising.column[n] >> 5, second = raising.column[n] & 31;
            const V scaled = V::all(raising.value[n]) * to_y[4 + r];
            to_y[first] = fma(scaled, y[second], to_y[first]);
            to_y[second] = fma(scaled, y[first], to_y[second]);
        }
    for (int a = 0; a < 3; ++a)
        to_direction[a] = model.max_ell > 0 ? V::all(static_cast<T>(1.7320508075688772)) * to_y[1 + a] : V::zero();
}

// Edges begin ... end, the first of them received by `receiver`; the arrays start with edge `first`.
template <class T>
void measure_edges(const EngineModel<T>& model, const EngineSystem& system, std::int64_t receiver, std::int64_t begin,
                   std::int64_t end, std::int64_t first, const EdgeGeometry<T>& out) {
    using V = Register<T>;
    const double scale = model.knots / model.cutoff;
    const int used = (model.max_ell + 1) * (model.max_ell + 1);
    alignas(64) T direction[3][V::lanes] = {}, harmonics[kMostHarmonics][V::lanes];
    for (std::int64_t b = begin; b < end; b += V::lanes) {
        const int count = static_cast<int>(end - b < V::lanes ? end - b : V::lanes);
        for (int lane = 0; lane < count; ++lane) {
            const std::int64_t e = b + lane;
            while (e >= system.start[receiver + 1]) ++receiver;
            const double *x = system.positions + 3 * receiver, *other = system.positions + 3l * system.sender[e];
            double v[3];
            for (int a = 0; a < 3; ++a) v[a] = x[a] - other[a] + (system.offset ? system.offset[3 * e + a] : 0.0);
            const double length = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
            const double safe = length > kShortestEdge ? length : kShortestEdge, inverse = 1.0 / safe;
            double* unit = out.unit + 4 * (e - first);
            for (int a = 0; a < 3; ++a) {
                unit[a] = v[a] * inverse;
                direction[a][lane] = static_cast<T>(unit[a]);
            }
            unit[3] = inverse;
            const double place = safe * scale;
            const int knot = place < model.knots ? static_cast<int>(place) : model.knots;
            const int pair = model.pair[system.element[receiver] * model.num_elements + system.sender_element[e]];
            out.row[e - first] = pair * (model.knots + 1) + knot;
            out.fraction[e - first] = knot < model.knots ? static_cast<T>(place - knot - 0.5) : static_cast<T>(0);
        }
        V directions[3], y[kMostHarmonics];
        for (int a = 0; a < 3; ++a) directions[a] = V::load(direction[a]);
        harmonics_of(model, directions, y);
        for (int k = 0; k < used; ++k) y[k].store(harmonics[k]);
        for (int lane = 0; lane < count; ++lane) {
            T* row = out.y + (b + lane - first) * out.width;
            for (int k = 0; k < used; ++k) row[k] = harmonics[k][lane];
        }
    }
}

// One piecewise polynomial of the distance: value, and slope per Å.
template <class T>
MACEKIT_INLINE double piece_at(const double* table, int row, double fraction, double scale, double& slope) {
    constexpr int degree = kPieceDegree<T>;
    const double* c = table + static_cast<std::int64_t>(row) * (degree + 1);
    double value = c[degree];
    slope = 0.0;
    for (int k = degree - 1; k >= 0; --k) {
        slope = slope * fraction + value;
        value = value * fraction + c[k];
    }
    slope *= scale;
    return value;
}

// Repulsion of a pair at this distance, half of it, and its derivative.
template <class T>
double repel(const EngineRepulsion& repulsion, int pair, double length, double& slope) {
    slope = 0.0;
    const double reach = repulsion.reach[pair], x = length / reach;
    if (x >= 1.0) return 0.0;
    double sum = 0.0, sum_slope = 0.0;
    for (int k = 0; k < 4; ++k) {
        const double rate = repulsion.decays[k] * repulsion.inverse[pair];
        const double term = repulsion.weights[k] * std::exp(-rate * length);
        sum += term;
        sum_slope -= rate * term;
    }
    const double p = repulsion.power, power = std::pow(x, p);
    const double envelope = 1.0 - (p + 1.0) * (p + 2.0) / 2.0 * power + p * (p + 2.0) * power * x -
                            p * (p + 1.0) / 2.0 * power * x * x;
    const double envelope_slope = -p * (p + 1.0) * (p + 2.0) / 2.0 * std::pow(x, p - 1.0) * (1.0 - x) * (1.0 - x) / reach;
    const double strength = repulsion.strength[pair] / length;
    slope = strength * (sum_slope * envelope + sum * envelope_slope - sum * envelope / length);
    return strength * sum * envelope;
}

}  // namespace
}  // namespace macekit
