// Distances and spherical harmonics of edges in float64, with the two products with their Jacobian.
//
// Harmonics are built degree by degree, Y_r = Σ_n c_n Y_a(n) Y_b(n) with Y_a of degree 1 and Y_b of one degree less, some
// edges side by side. Edges shorter than `shortest` are treated as this long, and their length as a constant.
#pragma once

#include <cmath>

#include "arguments.h"
#include "workspace.h"

namespace macekit {
namespace {

constexpr int kLanes = 16;  // edges side by side
constexpr int kRows = (kHighestDegree + 1) * (kHighestDegree + 1);
constexpr double kFirst = 1.7320508075688772;  // Y_1 over the direction

using Row = double[kLanes];

// Some edges: directions, lengths as they count, and 1 where they are not the shortest, otherwise 0.
struct Directions {
    Row unit[3], length, inverse, moves;

    Directions(const double* vectors, int count, double shortest) {
        for (int lane = 0; lane < kLanes; ++lane)
            for (int a = 0; a < 3; ++a) unit[a][lane] = vectors[3 * (lane < count ? lane : count - 1) + a];
        for (int lane = 0; lane < kLanes; ++lane) {
            const double found = std::sqrt(unit[0][lane] * unit[0][lane] + unit[1][lane] * unit[1][lane] +
                                           unit[2][lane] * unit[2][lane]);
            length[lane] = found < shortest ? shortest : found;  // what is no number stays
            moves[lane] = found >= shortest ? 1.0 : 0.0;
            inverse[lane] = 1.0 / length[lane];
            for (int a = 0; a < 3; ++a) unit[a][lane] *= inverse[lane];
        }
    }
    // Takes away the part of a vector that changes the length, and returns that part.
    void project(Row* vector, Row& along) const {
        for (int lane = 0; lane < kLanes; ++lane) {
            along[lane] = moves[lane] * (unit[0][lane] * vector[0][lane] + unit[1][lane] * vector[1][lane] +
                                         unit[2][lane] * vector[2][lane]);
            for (int a = 0; a < 3; ++a)
                vector[a][lane] = inverse[lane] * (vector[a][lane] - along[lane] * unit[a][lane]);
        }
    }
};

void make_harmonics(const HarmonicStructure& structure, const Row* unit, Row* y) {
    for (int row = 0; row < structure.width(); ++row)
        for (int lane = 0; lane < kLanes; ++lane) y[row][lane] = row == 0 ? 1.0 : 0.0;
    for (int a = 0; a < 3 && structure.max_ell > 0; ++a)
        for (int lane = 0; lane < kLanes; ++lane) y[1 + a][lane] = kFirst * unit[a][lane];
    for (int n = 0; n < structure.count; ++n) {
        const HarmonicTerm term = structure.terms[n];
        for (int lane = 0; lane < kLanes; ++lane)
            y[term.row][lane] += term.factor * y[term.first][lane] * y[term.second][lane];
    }
}

template <class T>
void store(const Row* rows, int count, int width, T* numbers) {
    for (int lane = 0; lane < count; ++lane)
        for (int row = 0; row < width; ++row) numbers[lane * width + row] = static_cast<T>(rows[row][lane]);
}

// Calls body(first edge, number of edges) for all edges.
template <class Body>
void blocks_of(std::int64_t edges, int threads, const Body& body) {
    const int workers = threads > 0 ? threads : 1;
    run_workers(workers, [&](int worker) {
        const std::int64_t end = part(edges, workers, worker + 1);
        for (std::int64_t first = part(edges, workers, worker); first < end; first += kLanes)
            body(first, static_cast<int>(smaller(kLanes, end - first)));
    });
}

template <class T>
void measure(const HarmonicStructure& structure, std::int64_t edges, const double* vectors, double shortest,
             const EdgeNumbers<T>& out, int threads) {
    blocks_of(edges, threads, [&](std::int64_t first, int count) {
        const Directions at(vectors + 3 * first, count, shortest);
        Row y[kRows];
        make_harmonics(structure, at.unit, y);
        store(y, count, structure.width(), out.harmonics + first * structure.width());
        for (int lane = 0; lane < count; ++lane) out.lengths[first + lane] = at.length[lane];
    });
}

template <class T>
void pull(const HarmonicStructure& structure, std::int64_t edges, const double* vectors, double shortest,
          const EdgeNumbers<T>& gradients, int threads) {
    const int width = structure.width();
    blocks_of(edges, threads, [&](std::int64_t first, int count) {
        const Directions at(vectors + 3 * first, count, shortest);
        Row y[kRows], to_y[kRows] = {}, to_vector[3] = {}, along;
        make_harmonics(structure, at.unit, y);
        for (int lane = 0; lane < count; ++lane)
            for (int row = 0; row < width; ++row) to_y[row][lane] = gradients.harmonics[(first + lane) * width + row];
        for (int n = structure.count - 1; n >= 0; --n) {
            const HarmonicTerm term = structure.terms[n];
            for (int lane = 0; lane < kLanes; ++lane) {
                const double scaled = term.factor * to_y[term.row][lane];
                to_y[term.first][lane] += scaled * y[term.second][lane];
                to_y[term.second][lane] += scaled * y[term.first][lane];
            }
        }
        for (int a = 0; a < 3 && structure.max_ell > 0; ++a)
            for (int lane = 0; lane < kLanes; ++lane) to_vector[a][lane] = kFirst * to_y[1 + a][lane];
        at.project(to_vector, along);
        for (int lane = 0; lane < count; ++lane)
            for (int a = 0; a < 3; ++a)
                gradients.vectors[3 * (first + lane) + a] =
                    to_vector[a][lane] + at.moves[lane] * at.unit[a][lane] * gradients.lengths[first + lane];
    });
}

template <class T>
void push(const HarmonicStructure& structure, std::int64_t edges, const double* vectors, double shortest,
          const EdgeNumbers<T>& tangents, int threads) {
    blocks_of(edges, threads, [&](std::int64_t first, int count) {
        const Directions at(vectors + 3 * first, count, shortest);
        Row y[kRows], dy[kRows] = {}, moved[3] = {}, along;
        make_harmonics(structure, at.unit, y);
        for (int lane = 0; lane < count; ++lane)
            for (int a = 0; a < 3; ++a) moved[a][lane] = tangents.vectors[3 * (first + lane) + a];
        at.project(moved, along);
        for (int a = 0; a < 3 && structure.max_ell > 0; ++a)
            for (int lane = 0; lane < kLanes; ++lane) dy[1 + a][lane] = kFirst * moved[a][lane];
        for (int n = 0; n < structure.count; ++n) {
            const HarmonicTerm term = structure.terms[n];
            for (int lane = 0; lane < kLanes; ++lane)
                dy[term.row][lane] += term.factor * (dy[term.first][lane] * y[term.second][lane] +
                                                     y[term.first][lane] * dy[term.second][lane]);
        }
        store(dy, count, structure.width(), tangents.harmonics + first * structure.width());
        for (int lane = 0; lane < count; ++lane) tangents.lengths[first + lane] = along[lane];
    });
}

}  // namespace
}  // namespace macekit
