#include "edge_harmonics.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace macekit {
namespace {

constexpr int kLanes = 8;  // edges side by side
constexpr int kHighestEll = 4, kRows = (kHighestEll + 1) * (kHighestEll + 1);
constexpr double kFirst = 1.7320508075688772;  // Y_1 over the direction

using Row = double[kLanes];

// Some edges: directions, lengths as they count, and 1 where they are not the shortest, otherwise 0.
struct Directions {
    Row unit[3], length, inverse, moves;

    Directions(const double* vectors, int count, double shortest) {
        for (int lane = 0; lane < kLanes; ++lane) {
            const double* v = vectors + 3 * std::min(lane, count - 1);
            const double found = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
            length[lane] = std::max(found, shortest);
            moves[lane] = found >= shortest ? 1.0 : 0.0;
            inverse[lane] = 1.0 / length[lane];
            for (int a = 0; a < 3; ++a) unit[a][lane] = v[a] * inverse[lane];
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

void make_harmonics(int max_ell, const std::vector<HarmonicTerm>& terms, const Row* unit, Row* y) {
    const int rows = (max_ell + 1) * (max_ell + 1);
    for (int row = 0; row < rows; ++row) std::fill(y[row], y[row] + kLanes, row == 0 ? 1.0 : 0.0);
    for (int a = 0; a < 3 && max_ell > 0; ++a)
        for (int lane = 0; lane < kLanes; ++lane) y[1 + a][lane] = kFirst * unit[a][lane];
    for (const HarmonicTerm& term : terms)
        for (int lane = 0; lane < kLanes; ++lane)
            y[term.row][lane] += term.factor * y[term.first][lane] * y[term.second][lane];
}

template <class T>
void store(const Row* rows, int count, int width, T* numbers) {
    for (int lane = 0; lane < count; ++lane)
        for (int row = 0; row < width; ++row) numbers[lane * width + row] = static_cast<T>(rows[row][lane]);
}

// Calls body(first edge, number of edges) for all edges.
template <class Body>
void blocks_of(std::int64_t edges, const Body& body) {
    for (std::int64_t first = 0; first < edges; first += kLanes)
        body(first, static_cast<int>(std::min<std::int64_t>(kLanes, edges - first)));
}

}  // namespace

EdgeHarmonics::EdgeHarmonics(int max_ell, std::vector<HarmonicTerm> terms)
    : max_ell_(max_ell), terms_(std::move(terms)) {
    const int rows = (max_ell + 1) * (max_ell + 1);
    if (max_ell < 0 || max_ell > kHighestEll) throw std::invalid_argument("harmonics of this degree are not there");
    for (const HarmonicTerm& term : terms_)
        if (term.row < 4 || term.row >= rows || term.first < 0 || term.first >= term.row || term.second < 0 ||
            term.second >= term.row)
            throw std::invalid_argument("a harmonic is made of those before it");
}

template <class T>
void EdgeHarmonics::measure(std::int64_t edges, const double* vectors, double shortest, const EdgeNumbers<T>& out) const {
    const int width = this->width();
    blocks_of(edges, [&](std::int64_t first, int count) {
        const Directions at(vectors + 3 * first, count, shortest);
        Row y[kRows];
        make_harmonics(max_ell_, terms_, at.unit, y);
        store(y, count, width, out.harmonics + first * width);
        std::copy(at.length, at.length + count, out.lengths + first);
    });
}

template <class T>
void EdgeHarmonics::pull(std::int64_t edges, const double* vectors, double shortest,
                         const EdgeNumbers<T>& gradients) const {
    const int width = this->width();
    blocks_of(edges, [&](std::int64_t first, int count) {
        const Directions at(vectors + 3 * first, count, shortest);
        Row y[kRows], to_y[kRows] = {}, to_vector[3] = {}, along;
        make_harmonics(max_ell_, terms_, at.unit, y);
        for (int lane = 0; lane < count; ++lane)
            for (int row = 0; row < width; ++row) to_y[row][lane] = gradients.harmonics[(first + lane) * width + row];
        for (auto term = terms_.rbegin(); term != terms_.rend(); ++term)
            for (int lane = 0; lane < kLanes; ++lane) {
                const double scaled = term->factor * to_y[term->row][lane];
                to_y[term->first][lane] += scaled * y[term->second][lane];
                to_y[term->second][lane] += scaled * y[term->first][lane];
            }
        for (int a = 0; a < 3 && max_ell_ > 0; ++a)
            for (int lane = 0; lane < kLanes; ++lane) to_vector[a][lane] = kFirst * to_y[1 + a][lane];
        at.project(to_vector, along);
        for (int lane = 0; lane < count; ++lane)
            for (int a = 0; a < 3; ++a)
                gradients.vectors[3 * (first + lane) + a] =
                    to_vector[a][lane] + at.moves[lane] * at.unit[a][lane] * gradients.lengths[first + lane];
    });
}

template <class T>
void EdgeHarmonics::push(std::int64_t edges, const double* vectors, double shortest,
                         const EdgeNumbers<T>& tangents) const {
    const int width = this->width();
    blocks_of(edges, [&](std::int64_t first, int count) {
        const Directions at(vectors + 3 * first, count, shortest);
        Row y[kRows], dy[kRows] = {}, moved[3] = {}, along;
        make_harmonics(max_ell_, terms_, at.unit, y);
        for (int lane = 0; lane < count; ++lane)
            for (int a = 0; a < 3; ++a) moved[a][lane] = tangents.vectors[3 * (first + lane) + a];
        at.project(moved, along);
        for (int a = 0; a < 3 && max_ell_ > 0; ++a)
            for (int lane = 0; lane < kLanes; ++lane) dy[1 + a][lane] = kFirst * moved[a][lane];
        for (const HarmonicTerm& term : terms_)
            for (int lane = 0; lane < kLanes; ++lane)
                dy[term.row][lane] += term.factor * (dy[term.first][lane] * y[term.second][lane] +
                                                     y[term.first][lane] * dy[term.second][lane]);
        store(dy, count, width, tangents.harmonics + first * width);
        std::copy(along, along + count, tangents.lengths + first);
    });
}

#define MACEKIT_FOR(T)                                                                                            \
    template void EdgeHarmonics::measure(std::int64_t, const double*, double, const EdgeNumbers<T>&) const;       \
    template void EdgeHarmonics::pull(std::int64_t, const double*, double, const EdgeNumbers<T>&) const;          \
    template void EdgeHarmonics::push(std::int64_t, const double*, double, const EdgeNumbers<T>&) const;
MACEKIT_FOR(float)
MACEKIT_FOR(double)
#undef MACEKIT_FOR

}  // namespace macekit
