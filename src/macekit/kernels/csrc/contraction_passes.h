// The symmetric contraction and its backward passes for all atoms: tiles of atoms of one species, blocks of channels.
#pragma once

#include "contraction.h"
#include "workspace.h"

namespace macekit {
namespace {

constexpr std::int64_t kAtomsPerTask = 256;  // fixed, so that sums do not depend on the number of threads

enum class Pass { value, gradient, tangent };

// Atoms of one species, one block of channels. The gradient by coefficients goes to its own copy where the species has
// several tasks.
struct Task {
    std::int64_t species, begin, end, block;
};

// Copies `count` rows of one block of channels to consecutive registers.
template <class T, class Lanes>
MACEKIT_INLINE void gather_coefficients(const ContractionStructure& structure, const T* rows, std::int64_t channels,
                                        T* packed, Lanes lanes) {
    using V = Register<T>;
    for (int node = 0; node < structure.num_nodes; ++node) {
        const int term = structure.nodes[node].term;
        (term < 0 ? V::zero() : V::load(rows + term * channels, lanes)).store(packed + node * V::lanes);
    }
}

template <class T, Pass pass>
struct ContractionTask {
    using V = Register<T>;
    static constexpr int atoms_at_once = pass == Pass::tangent ? kAtomsAtOnce / 2 : kAtomsAtOnce;
    using Numbers = Tile<T, atoms_at_once>;
    const ContractionStructure& structure;
    const Species& species;
    const ContractionArguments<T>& arguments;
    T* c;         // memory of this worker, see `memory`
    T* to_terms;  // gradient by the coefficients of the task's species, [T, K]

    static std::int64_t memory(const ContractionStructure& structure) {
        return 3 * structure.num_nodes * V::lanes + 3 * structure.dim_in * Numbers::size;
    }

    template <class Lanes>
    void run(const Task& task, Lanes lanes) const {
        const std::int64_t K = arguments.channels, channel = task.block * V::lanes;
        const std::int64_t of_species = task.species * structure.num_terms * K + channel;
        const int width = structure.num_nodes * V::lanes;
        T *dc = c + width, *to_c = dc + width;
        T *a = to_c + width, *da = a + structure.dim_in * Numbers::size, *to_a = da + structure.dim_in * Numbers::size;
        gather_coefficients(structure, arguments.coefficients + of_species, K, c, lanes);
        if (pass == Pass::tangent && arguments.tangent_coefficients)
            gather_coefficients(structure, arguments.tangent_coefficients + of_species, K, dc, lanes);
        else
            dc = nullptr;
        if (pass != Pass::value)
            for (int n = 0; n < width; ++n) to_c[n] = 0;
        const ContractionTile<T, atoms_at_once> tile{structure.nodes, a, da, c, dc, to_a, to_c};
        for (std::int64_t n = task.begin; n < task.end; n += atoms_at_once) {
            const int count = static_cast<int>(smaller(atoms_at_once, task.end - n));
            gather(arguments.a, structure.dim_in, n, count, channel, a, lanes);
            if (pass == Pass::tangent) gather(arguments.tangent_a, structure.dim_in, n, count, channel, da, lanes);
            if (pass != Pass::value)
                for (int m = 0; m < structure.dim_in * Numbers::size; ++m) to_a[m] = 0;
            switch (structure.order) {
                case 1: evaluate<1>(tile, n, count, channel, lanes); break;
                case 2: evaluate<2>(tile, n, count, channel, lanes); break;
                case 3: evaluate<3>(tile, n, count, channel, lanes); break;
                default: evaluate<4>(tile, n, count, channel, lanes);
            }
            if (pass != Pass::value)
                for (int component = 0; component < structure.dim_in; ++component)
                    scatter(Numbers::load(to_a + component * Numbers::size), arguments.to_a, structure.dim_in, component,
                            n, count, channel, lanes);
        }
        if (pass != Pass::value)
            for (int node = 0; node < structure.num_nodes; ++node)
                if (structure.nodes[node].term >= 0)
                    V::load(to_c + node * V::lanes).store(to_terms + structure.nodes[node].term * K + channel, lanes);
    }

    // All outputs of a tile of atoms.
    template <int order, class Lanes>
    void evaluate(const ContractionTile<T, atoms_at_once>& tile, std::int64_t n, int count, std::int64_t channel,
                  Lanes lanes) const {
        for (int row = 0; row < structure.dim_out; ++row) {
            if constexpr (pass == Pass::value) {
                scatter(tile.template value<order>(row), arguments.out, structure.dim_out, row, n, count, channel, lanes);
            } else {
                Numbers weight;
                for (int i = 0; i < atoms_at_once; ++i)
                    weight.of[i] = i < count ? V::load(at(arguments.grad, structure.dim_out, row, n + i, channel), lanes)
                                             : V::zero();
                if constexpr (pass == Pass::gradient)
                    tile.template gradient<order>(row, weight);
                else
                    scatter(tile.template tangent_gradient<order>(row, {weight, Numbers::all(V::zero())}).tangent,
                            arguments.out, structure.dim_out, row, n, count, channel, lanes);
            }
        }
    }

    template <class Pointer>
    MACEKIT_INLINE Pointer at(Pointer rows, int dim, int row, std::int64_t n, std::int64_t channel) const {
        return rows + (species.atom[n] * dim + row) * arguments.channels + channel;
    }

    // Atoms beyond the last, and a tangent that is not there, are zeros.
    template <class Lanes>
    void gather(const T* rows, int dim, std::int64_t n, int count, std::int64_t channel, T* packed, Lanes lanes) const {
        for (int row = 0; row < dim; ++row)
            for (int i = 0; i < atoms_at_once; ++i)
                (rows && i < count ? V::load(at(rows, dim, row, n + i, channel), lanes) : V::zero())
                    .store(packed + (row * atoms_at_once + i) * V::lanes);
    }

    template <class Lanes>
    MACEKIT_INLINE void scatter(const Numbers& numbers, T* rows, int dim, int row, std::int64_t n, int count,
                                std::int64_t channel, Lanes lanes) const {
        for (int i = 0; i < count; ++i) numbers.of[i].store(at(rows, dim, row, n + i, channel), lanes);
    }
};

// Tasks in the order (species, range of atoms, block of channels).
inline std::int64_t tasks_of(const Species& species, std::int64_t number) {
    const std::int64_t atoms = species.start[number + 1] - species.start[number];
    return (atoms + kAtomsPerTask - 1) / kAtomsPerTask;
}

template <class T, Pass pass>
void contract(const ContractionStructure& structure, const Species& species, const ContractionArguments<T>& arguments,
              int threads) {
    using V = Register<T>;
    const std::int64_t K = arguments.channels, blocks = (K + V::lanes - 1) / V::lanes;
    const std::int64_t row = structure.num_terms * K;
    std::int64_t ranges = 0;
    for (std::int64_t s = 0; s < species.count; ++s) ranges += tasks_of(species, s);
    const Workspace<Task> tasks(ranges * blocks);
    const Workspace<T*> destinations(ranges * blocks);
    const Workspace<T> copies(pass == Pass::value ? 0 : ranges * row);
    std::int64_t count = 0;
    for (std::int64_t s = 0; s < species.count; ++s)
        for (std::int64_t begin = species.start[s]; begin < species.start[s + 1]; begin += kAtomsPerTask)
            for (std::int64_t block = 0; block < blocks; ++block, ++count) {
                tasks.data()[count] = {s, begin, smaller(begin + kAtomsPerTask, species.start[s + 1]), block};
                destinations.data()[count] = tasks_of(species, s) == 1 ? arguments.to_coefficients + s * row
                                                                       : copies.data() + count / blocks * row;
            }
    const int workers = static_cast<int>(smaller(threads > 0 ? threads : 1, count > 0 ? count : 1));
    run_workers(workers, [&](int worker) {
        const Workspace<T> memory(ContractionTask<T, pass>::memory(structure));
        for (std::int64_t n = worker; n < count; n += workers) {
            const Task& task = tasks.data()[n];
            const ContractionTask<T, pass> work{structure, species, arguments, memory.data(), destinations.data()[n]};
            const std::int64_t left = K - task.block * V::lanes;
            if (left >= V::lanes)
                work.run(task, Full());
            else
                work.run(task, Partial{static_cast<int>(left)});
        }
    });
    if (pass == Pass::value) return;
    std::int64_t range = 0;
    for (std::int64_t s = 0; s < species.count; ++s) {
        const std::int64_t several = tasks_of(species, s);
        if (several != 1)
            run_workers(workers, [&](int worker) {
                for (std::int64_t n = part(row, workers, worker); n < part(row, workers, worker + 1); ++n) {
                    T sum = 0;
                    for (std::int64_t r = range; r < range + several; ++r) sum += copies.data()[r * row + n];
                    arguments.to_coefficients[s * row + n] = sum;
                }
            });
        range += several;
    }
}

}  // namespace
}  // namespace macekit
