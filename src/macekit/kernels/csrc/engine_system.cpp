#include "engine_system.h"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>

namespace macekit {

namespace {

int checked(std::int64_t index, std::int64_t count, const char* what) {
    if (index < 0 || index >= count)
        throw std::out_of_range(std::string(what) + " " + std::to_string(index) + " is not in 0 ... " +
                                std::to_string(count - 1));
    return static_cast<int>(index);
}

}  // namespace

SortedSystem::SortedSystem(const EngineBatch& batch, int num_elements)
    : graphs_(batch.graphs), is_periodic_(batch.shifts != nullptr), positions_(3 * batch.atoms), element_(batch.atoms),
      graph_(batch.atoms), sender_(batch.edges), sender_element_(batch.edges), candidate_(batch.edges),
      element_start_(num_elements + 1, 0), order_(batch.atoms), start_(batch.atoms + 1, 0) {
    const std::int64_t N = batch.atoms, E = batch.edges;
    for (std::int64_t n = 0; n < N; ++n) ++element_start_[checked(batch.element[n], num_elements, "element") + 1];
    for (int z = 0; z < num_elements; ++z) element_start_[z + 1] += element_start_[z];
    std::vector<int> place(N);
    std::vector<std::int64_t> next(element_start_.begin(), element_start_.end());
    for (std::int64_t n = 0; n < N; ++n) {
        const std::int64_t i = next[batch.element[n]]++;
        place[n] = static_cast<int>(i);
        order_[i] = n;
        element_[i] = static_cast<int>(batch.element[n]);
        graph_[i] = checked(batch.graph[n], batch.graphs, "structure");
    }
    // edges by receiver and sender's element
    std::vector<std::int64_t> bucket(N * num_elements + 1, 0);
    const auto bucket_of = [&](std::int64_t e) {
        return static_cast<std::int64_t>(place[batch.receiver[e]]) * num_elements + batch.element[batch.sender[e]];
    };
    for (std::int64_t e = 0; e < E; ++e) {
        checked(batch.receiver[e], N, "receiver");
        checked(batch.sender[e], N, "sender");
        ++bucket[bucket_of(e) + 1];
    }
    for (std::int64_t n = 0; n < N * num_elements; ++n) bucket[n + 1] += bucket[n];
    candidate_start_.resize(N + 1, E);
    for (std::int64_t i = 0; i < N; ++i) candidate_start_[i] = bucket[i * num_elements];
    if (is_periodic_) {
        shift_.resize(3 * E);
        offset_.resize(3 * E);
    }
    for (std::int64_t e = 0; e < E; ++e) {
        const std::int64_t target = bucket[bucket_of(e)]++;
        candidate_[target] = place[batch.sender[e]];
        if (is_periodic_)
            for (int k = 0; k < 3; ++k) shift_[3 * target + k] = batch.shifts[3 * e + k];
    }
}

double SortedSystem::place(const double* positions, const double* cell, double cutoff) {
    const std::int64_t N = atoms();
    for (std::int64_t i = 0; i < N; ++i)
        for (int a = 0; a < 3; ++a) positions_[3 * i + a] = positions[3 * order_[i] + a];
    double shortest = std::numeric_limits<double>::infinity();
    std::int64_t edges = 0;
    for (std::int64_t i = 0; i < N; ++i) {
        start_[i] = edges;
        const double *x = &positions_[3 * i], *vectors = cell + 9 * graph_[i];
        for (std::int64_t e = candidate_start_[i]; e < candidate_start_[i + 1]; ++e) {
            const int j = candidate_[e];
            const double* other = &positions_[3 * static_cast<std::int64_t>(j)];
            double offset[3] = {0.0, 0.0, 0.0}, square = 0.0;
            for (int a = 0; a < 3; ++a) {
                if (is_periodic_)
                    for (int k = 0; k < 3; ++k) offset[a] += shift_[3 * e + k] * vectors[3 * k + a];
                const double v = x[a] - other[a] + offset[a];
                square += v * v;
            }
            if (!(square < cutoff * cutoff)) continue;
            shortest = square < shortest ? square : shortest;
            sender_[edges] = j;
            sender_element_[edges] = element_[j];
            if (is_periodic_)
                for (int a = 0; a < 3; ++a) offset_[3 * edges + a] = offset[a];
            ++edges;
        }
    }
    start_[N] = edges;
    return std::sqrt(shortest);
}

EngineSystem SortedSystem::view() const {
    return {atoms(), start_.back(), graphs_,
            positions_.data(), element_.data(), element_start_.data(), graph_.data(), order_.data(), start_.data(),
            sender_.data(), sender_element_.data(), is_periodic_ ? offset_.data() : nullptr};
}

}  // namespace macekit
