// The symmetric contraction and its backward passes for all atoms: tiles of atoms of one species, blocks of channels.
#pragma once

#include <algorithm>
#include <type_traits>

#include "contraction.h"
#include "workspace.h"

namespace macekit {
namespace {

constexpr std::int64_t kAtomsPerTask = 256;  // fixed, so that sums do not depend on the number of threads

// `tangent`: of the input alone.
enum class Pass { value, gradient, gradient_by_atoms, tangent, tangent_of_all };

// What a pass calculates with.
template <class T, Pass pass>
struct ContractionNumbers {
    static constexpr bool is_dual = pass == Pass::tangent || pass == Pass::tangent_of_all;
    static constexpr bool by_terms = is_dual || pass == Pass::gradient;  // gradient by coefficients
    static constexpr int atoms = is_dual && kRegisters < 32 ? 2 : 4;     // they share coefficients
    using Numbers = Tile<T, atoms>;
    using Variable = std::conditional_t<is_dual, DualTile<T, atoms>, Numbers>;
    using Coefficient = std::conditional_t<pass == Pass::tangent_of_all, DualRegister<T>, Register<T>>;
};

// Atoms of one species, one block of channels. The gradient by coefficients goes to its own copy where the species has
// several tasks.
struct Task {
    std::int64_t species, begin, end, block;
};

template <class T, Pass pass>
struct ContractionTask {
    using V = Register<T>;
    using Kind = ContractionNumbers<T, pass>;
    using Numbers = typename Kind::Numbers;
    using Variable = typename Kind::Variable;
    using Coefficient = typename Kind::Coefficient;
    static constexpr int atoms_at_once = Kind::atoms;
    const ContractionStructure& structure;
    const Species& species;
    const ContractionArguments<T>& arguments;
    T* memory;    // of this worker, `memory_size` numbers
    T* to_terms;  // gradient by the coefficients of the task's species, [T, K]

    // What is added to lies half a page from where a row of its number is read: a processor takes a load for one of what
    // was stored just before wherever the low 12 bits of their addresses agree, and waits.
    static constexpr std::int64_t kPage = 4096 / sizeof(T);
    static std::int64_t pages(std::int64_t length) { return (length + kPage - 1) / kPage * kPage; }
    static std::int64_t memory_size(const ContractionStructure& structure) {
        const std::int64_t products = 2 * structure.rows + structure.columns;
        return pages(structure.num_terms * Coefficient::lanes) + pages(structure.num_terms * V::lanes) + kPage / 2 +
               (structure.variables() + products) * Variable::size;
    }

    template <class Lanes>
    void run(const Task& task, Lanes lanes) const {
        const std::int64_t K = arguments.channels, channel = task.block * V::lanes;
        const std::int64_t of_species = task.species * structure.num_terms * K + channel;
        T *c = memory, *to_c = c + pages(structure.num_terms * Coefficient::lanes) + kPage / 2;
        T *x = to_c + pages(structure.num_terms * V::lanes), *p = x + structure.variables() * Variable::size;
        gather_coefficients(arguments.coefficients + of_species, c, lanes);
        if constexpr (pass == Pass::tangent_of_all)
            gather_coefficients(arguments.tangent_coefficients + of_species, c + V::lanes, lanes);
        if (Kind::by_terms) std::fill(to_c, to_c + structure.num_terms * V::lanes, T(0));
        const ContractionTile<T, Variable, Coefficient> tile{structure, c, x, p, p + structure.rows * Variable::size,
                                                             to_c};
        Variable::zero().store(x);
        Numbers::all(V::all(1)).store(x);
        for (std::int64_t n = task.begin; n < task.end; n += atoms_at_once) {
            const int count = static_cast<int>(smaller(atoms_at_once, task.end - n));
            gather(arguments.a, n, count, channel, x + Variable::size, lanes);
            if constexpr (Kind::is_dual)
                gather(arguments.tangent_a, n, count, channel, x + Variable::size + Numbers::size, lanes);
            evaluate(tile, n, count, channel, lanes);
        }
        if (Kind::by_terms)
            for (int e = 0; e < structure.num_terms; ++e)
                V::load(to_c + e * V::lanes).store(to_terms + structure.entry_term[e] * K + channel, lanes);
    }

    template <class Lanes>
    void evaluate(const ContractionTile<T, Variable, Coefficient>& tile, std::int64_t n, int count,
                  std::int64_t channel, Lanes lanes) const {
        tile.multiply_columns();
        for (int row = 0; row < structure.dim_out; ++row) {
            if constexpr (pass == Pass::value) {
                scatter(tile.value(row), arguments.out, structure.dim_out, row, n, count, channel, lanes);
            } else {
                Numbers grad;
                for (int i = 0; i < atoms_at_once; ++i)
                    grad.of[i] = i < count ? V::load(at(arguments.grad, structure.dim_out, row, n + i, channel), lanes)
                                           : V::zero();
                const Numbers out = tile.template adjoint_rows<Kind::is_dual, Kind::by_terms>(row, grad);
                if constexpr (Kind::is_dual)
                    scatter(out, arguments.out, structure.dim_out, row, n, count, channel, lanes);
            }
        }
        if constexpr (pass != Pass::value) {
            tile.adjoint_columns();
            for (int d = 0; d < structure.dim_in; ++d)
                scatter(tile.gradient(d), arguments.to_a, structure.dim_in, d, n, count, channel, lanes);
        }
    }

    // One block of channels of the coefficients in the order of the entries.
    template <class Lanes>
    void gather_coefficients(const T* rows, T* packed, Lanes lanes) const {
        for (int e = 0; e < structure.num_terms; ++e)
            V::load(rows + structure.entry_term[e] * arguments.channels, lanes)
                .store(packed + static_cast<std::int64_t>(e) * Coefficient::lanes);
    }

    template <class Pointer>
    MACEKIT_INLINE Pointer at(Pointer rows, int dim, int row, std::int64_t n, std::int64_t channel) const {
        return rows + (species.atom[n] * dim + row) * arguments.channels + channel;
    }

    // Components of some atoms. Atoms beyond the last, and a tangent that is not there, are zeros.
    template <class Lanes>
    void gather(const T* rows, std::int64_t n, int count, std::int64_t channel, T* packed, Lanes lanes) const {
        const std::int64_t K = arguments.channels;
        const int dim = structure.dim_in;
        for (int i = 0; i < atoms_at_once; ++i, packed += V::lanes) {
            if (rows && i < count) {
                const T* from = at(rows, dim, 0, n + i, channel);
                for (int row = 0; row < dim; ++row) V::load(from + row * K, lanes).store(packed + row * Variable::size);
            } else {
                for (int row = 0; row < dim; ++row) V::zero().store(packed + row * Variable::size);
            }
        }
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

// Blocks of channels that share a cache line are of one worker: two that write to it wait for each other.
template <class T>
inline int worker_of(std::int64_t task, std::int64_t blocks, int workers) {
    constexpr std::int64_t line = 64 / sizeof(T), together = line > Register<T>::lanes ? line / Register<T>::lanes : 1;
    const std::int64_t groups = (blocks + together - 1) / together;
    return static_cast<int>((task / blocks * groups + task % blocks / together) % workers);
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
    const Workspace<T> copies(ContractionNumbers<T, pass>::by_terms ? ranges * row : 0);
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
        const Workspace<T> memory(ContractionTask<T, pass>::memory_size(structure));
        for (std::int64_t n = 0; n < count; ++n) {
            if (worker_of<T>(n, blocks, workers) != worker) continue;
            const Task& task = tasks.data()[n];
            const ContractionTask<T, pass> work{structure, species, arguments, memory.data(), destinations.data()[n]};
            const std::int64_t left = K - task.block * V::lanes;
            if (left >= V::lanes)
                work.run(task, Full());
            else
                work.run(task, Partial{static_cast<int>(left)});
        }
    });
    if (!ContractionNumbers<T, pass>::by_terms) return;
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

template <class T>
void contract_backward(const ContractionStructure& structure, const Species& species,
                       const ContractionArguments<T>& arguments, int threads) {
    if (arguments.to_coefficients)
        contract<T, Pass::gradient>(structure, species, arguments, threads);
    else
        contract<T, Pass::gradient_by_atoms>(structure, species, arguments, threads);
}

template <class T>
void contract_backward2(const ContractionStructure& structure, const Species& species,
                        const ContractionArguments<T>& arguments, int threads) {
    if (arguments.tangent_coefficients)
        contract<T, Pass::tangent_of_all>(structure, species, arguments, threads);
    else
        contract<T, Pass::tangent>(structure, species, arguments, threads);
}

}  // namespace
}  // namespace macekit
