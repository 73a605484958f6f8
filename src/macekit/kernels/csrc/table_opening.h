// Edges as the sweeps with a table take them: where their rows begin, the weights of the rows, and harmonics in order.
#pragma once

#include <cmath>

#include "arguments.h"
#include "workspace.h"

namespace macekit {
namespace {

// First row and weights of an edge of length r, whose tangent is `rate`. Beyond the last knot everything is zero, and
// before the first the radial functions are constant.
template <class T>
std::int64_t make_spline(const TableArguments<T>& arguments, double r, double rate, T* numbers) {
    const double t = (r - arguments.first) / arguments.step, inverse = 1.0 / arguments.step;
    const double last = static_cast<double>(arguments.rows - kSplineRows + 1);
    for (int n = 0; n < kSplineNumbers; ++n) numbers[n] = 0;
    if (!(t < last)) return 0;
    const double g = t > 0.0 ? std::floor(t) : 0.0, u = t > 0.0 ? t - g : 0.0, o = 1.0 - u;
    const double value[] = {o * o * o / 6, (3 * u * u * u - 6 * u * u + 4) / 6, (3 * o * o * o - 6 * o * o + 4) / 6,
                            u * u * u / 6};
    const double slope[] = {-o * o / 2, (3 * u * u - 4 * u) / 2, (-3 * o * o + 4 * o) / 2, u * u / 2};
    const double curvature[] = {o, 3 * u - 2, 3 * o - 2, u};
    const double by_length = t >= 0.0 ? inverse : 0.0;
    for (int q = 0; q < kSplineRows; ++q) {
        numbers[q] = static_cast<T>(value[q]);
        numbers[kSplineRows + q] = static_cast<T>(slope[q] * by_length);
        numbers[2 * kSplineRows + q] = static_cast<T>(slope[q] * by_length * rate);
        numbers[3 * kSplineRows + q] = static_cast<T>(curvature[q] * by_length * by_length * rate);
    }
    return static_cast<std::int64_t>(g);
}

template <class T>
void open_edges(const ConvolutionStructure<T>& structure, const Edges& edges, const TableArguments<T>& arguments,
                const OpenedEdges<T>& opened, int threads) {
    const std::int64_t harmonics = structure.harmonics();
    const int workers = threads > 0 ? threads : 1;
    run_workers(workers, [&](int worker) {
        const std::int64_t end = part(edges.count, workers, worker + 1);
        for (std::int64_t n = part(edges.count, workers, worker); n < end; ++n) {
            const std::int64_t edge = edges.edge[n];
            const double rate = opened.dy && arguments.tangent_lengths ? arguments.tangent_lengths[edge] : 0.0;
            const std::int64_t row =
                make_spline(arguments, arguments.lengths[edge], rate, opened.splines + n * kSplineNumbers);
            opened.edges[n] = {static_cast<std::int32_t>(edges.sender[n]), static_cast<std::int32_t>(row)};
            for (std::int64_t c = 0; c < harmonics; ++c)
                opened.y[n * harmonics + c] = arguments.y[edge * harmonics + c];
            if (opened.dy)
                for (std::int64_t c = 0; c < harmonics; ++c)
                    opened.dy[n * harmonics + c] = arguments.tangent_y ? arguments.tangent_y[edge * harmonics + c] : 0;
        }
    });
    std::memset(opened.used, 0, static_cast<std::size_t>(arguments.rows));
    for (std::int64_t n = 0; n < edges.count; ++n)
        for (int q = 0; q < kSplineRows; ++q) opened.used[opened.edges[n].row + q] = 1;
}

// Memory for opened edges.
template <class T>
class EdgeMemory {
   public:
    EdgeMemory(std::int64_t edges, int harmonics, std::int64_t rows, bool has_tangent)
        : edges_(edges), splines_(edges * kSplineNumbers), y_(edges * harmonics), dy_(has_tangent ? edges * harmonics : 0),
          used_(rows), has_tangent_(has_tangent) {}
    OpenedEdges<T> view() const {
        return {edges_.data(), splines_.data(), y_.data(), has_tangent_ ? dy_.data() : nullptr, used_.data()};
    }

   private:
    Workspace<PackedEdge> edges_;
    Workspace<T> splines_, y_, dy_;
    Workspace<char> used_;
    bool has_tangent_;
};

}  // namespace
}  // namespace macekit
