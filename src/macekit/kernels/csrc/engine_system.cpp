#include "engine_system.h"

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
    : graphs_(batch.graphs), positions_(3 * batch.atoms), element_(batch.atoms), graph_(batch.atoms),
      sender_(batch.edges), sender_element_(batch.edges), element_start_(num_elements + 1, 0), order_(batch.atoms),
      start_(batch.atoms + 1, 0) {
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
        for (int a = 0; a < 3; ++a) positions_[3 * i + a] = batch.positions[3 * n + a];
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
    for (std::int64_t i = 0; i < N; ++i) start_[i] = bucket[i * num_elements];
    start_[N] = E;
    if (batch.shifts != nullptr) offset_.resize(3 * E);
    for (std::int64_t e = 0; e < E; ++e) {
        const std::int64_t target = bucket[bucket_of(e)]++;
        const std::int64_t j = batch.sender[e];
        sender_[target] = place[j];
        sender_element_[target] = static_cast<int>(batch.element[j]);
        if (batch.shifts == nullptr) continue;
        const double* cell = batch.cell + 9 * batch.graph[j];
        for (int a = 0; a < 3; ++a) {
            double sum = 0.0;
            for (int k = 0; k < 3; ++k) sum += batch.shifts[3 * e + k] * cell[3 * k + a];
            offset_[3 * target + a] = sum;
        }
    }
}

EngineSystem SortedSystem::view() const {
    return {static_cast<std::int64_t>(element_.size()), static_cast<std::int64_t>(sender_.size()), graphs_,
            positions_.data(), element_.data(), element_start_.data(), graph_.data(), order_.data(), start_.data(),
            sender_.data(), sender_element_.data(), offset_.empty() ? nullptr : offset_.data()};
}

}  // namespace macekit
