// Atoms sorted by element and edges by receiver.
#pragma once

#include <vector>

#include "engine_model.h"

namespace macekit {

// A batch whose atoms may move: edges are sorted once, and those within the cutoff chosen whenever atoms are placed.
class SortedSystem {
   public:
    // Throws std::out_of_range for an index that does not exist.
    SortedSystem(const EngineBatch& batch, int num_elements);
    // Positions [atoms, 3] and cells [graphs, 3, 3] in the caller's order. The edges must hold all pairs within the
    // cutoff; those beyond it are left out. Returns the length of the shortest, infinity without edges.
    double place(const double* positions, const double* cell, double cutoff);
    EngineSystem view() const;
    int num_elements() const { return static_cast<int>(element_start_.size()) - 1; }
    std::int64_t graphs() const { return graphs_; }
    std::int64_t atoms() const { return static_cast<std::int64_t>(element_.size()); }

   private:
    std::int64_t graphs_;
    bool is_periodic_;
    std::vector<double> positions_, offset_, shift_;
    std::vector<int> element_, graph_, sender_, sender_element_, candidate_;
    std::vector<std::int64_t> element_start_, order_, start_, candidate_start_;
};

}  // namespace macekit
