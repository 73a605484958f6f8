// Atoms sorted by element and edges by receiver.
#pragma once

#include <vector>

#include "engine_model.h"

namespace macekit {

// Throws std::out_of_range for an index that does not exist.
class SortedSystem {
   public:
    SortedSystem(const EngineBatch& batch, int num_elements);
    EngineSystem view() const;

   private:
    std::int64_t graphs_;
    std::vector<double> positions_, offset_;
    std::vector<int> element_, graph_, sender_, sender_element_;
    std::vector<std::int64_t> element_start_, order_, start_;
};

}  // namespace macekit
