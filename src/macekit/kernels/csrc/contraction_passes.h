// The symmetric contraction and its backward passes for all atoms: tiles of atoms of one species, blocks of channels.
#pragma once

#include "contraction.h"
#include "workspace.h"

namespace macekit {
namespace {

constexpr std::int64_t kAtomsPerTask = 256;  // fixed, so that sums do not depend on the number of threads

enum class Pass { value, gradient, gradient_by_atoms, tangent };

// Atoms of one species, one block of channels. The gradient by coefficients goes to its own copy where the species has
// several tasks.
struct Task {
    std::int64_t species, begin, end, block;
};

template <class T, Pass pass>
struct ContractionTask {
    using V = Register<T>;
    static constexpr bool by_terms = pass == Pass::gradient || pass == Pass::tangent;  // gradient by coefficients
    static constexpr int atoms_at_once = pass == Pass::tangent && kRegisters < 32 ? 2 : 4;  // they share coefficients
    using Numbers = Tile<T, atoms_at_once>;
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
        return 3 * pages(structure.num_terms * V::lanes) + 3 * pages(structure.variables() * Numbers::size) + kPage;
    }

    template <class Lanes>
    void run(const Task& task, Lanes lanes) const {
        const std::int64_t K = arguments.channels, channel = task.block * V::lanes;
        const std::int64_t of_species = task.species * structure.num_terms * K + channel;
        const int width = structure.num_terms * V::lanes, length = structure.variables() * Numbers::size;
        T *c = memory, *dc = c + pages(width), *x = dc + pages(width), *dx = x + pages(length);
        T *to_x = dx + pages(length) + kPage / 2, *to_c = to_x + pages(length);
        gather_coefficients(arguments.coefficients + of_species, c, lanes);
        if (pass == Pass::tangent && arguments.tangent_coefficients)
            gather_coefficients(arguments.tangent_coefficients + of_species, dc, lanes);
        if (by_terms) clear(to_c, width);
        const ContractionTile<T, atoms_at_once> tile{structure, x, dx, c, dc, to_x, to_c};
        Numbers::all(V::all(1)).store(x);
        Numbers::all(V::zero()).store(dx);
        for (std::int64_t n = task.begin; n < task.end; n += atoms_at_once) {
            const int count = static_cast<int>(smaller(atoms_at_once, task.end - n));
            gather(arguments.a, n, count, channel, x + Numbers::size, lanes);
            if (pass == Pass::tangent) gather(arguments.tangent_a, n, count, channel, dx + Numbers::size, lanes);
            if (pass != Pass::value) clear(to_x, length);
            for (int row = 0; row < structure.dim_out; ++row) evaluate(tile, row, n, count, channel, lanes);
            if (pass != Pass::value)
                for (int component = 0; component < structure.dim_in; ++component)
                    scatter(Numbers::load(to_x + (1 + component) * Numbers::size), arguments.to_a, structure.dim_in,
                            component, n, count, channel, lanes);
        }
        if (by_terms)
            for (int e = 0; e < structure.num_terms; ++e)
                V::load(to_c + e * V::lanes).store(to_terms + structure.entries[e].term * K + channel, lanes);
    }

    // One output of a tile of atoms.
    template <class Lanes>
    void evaluate(const ContractionTile<T, atoms_at_once>& tile, int row, std::int64_t n, int count,
                  std::int64_t channel, Lanes lanes) const {
        if constexpr (pass == Pass::value) {
            scatter(tile.value(row), arguments.out, structure.dim_out, row, n, count, channel, lanes);
        } else {
            Numbers grad;
            for (int i = 0; i < atoms_at_once; ++i)
                grad.of[i] = i < count ? V::load(at(arguments.grad, structure.dim_out, row, n + i, channel), lanes)
                                       : V::zero();
            if constexpr (pass != Pass::tangent)
                tile.template gradient<by_terms>(row, grad);
            else
                scatter(arguments.tangent_coefficients ? tile.template tangent<true>(row, grad)
                                                       : tile.template tangent<false>(row, grad),
                        arguments.out, structure.dim_out, row, n, count, channel, lanes);
        }
    }

    static void clear(T* numbers, int count) {
        for (int n = 0; n < count; ++n) numbers[n] = 0;
    }

    // One block of channels of the coefficients in the order of the entries.
    template <class Lanes>
    void gather_coefficients(const T* rows, T* packed, Lanes lanes) const {
        for (int e = 0; e < structure.num_terms; ++e)
            V::load(rows + structure.entries[e].term * arguments.channels, lanes).store(packed + e * V::lanes);
    }

    template <class Pointer>
    MACEKIT_INLINE Pointer at(Pointer rows, int dim, int row, std::int64_t n, std::int64_t channel) const {
        return rows + (species.atom[n] * dim + row) * arguments.channels + channel;
    }

    // Components of some atoms. Atoms beyond the last, and a tangent that is not there, are zeros.
    template <class Lanes>
    void gather(const T* rows, std::int64_t n, int count, std::int64_t channel, T* packed, Lanes lanes) const {
        for (int row = 0; row < structure.dim_in; ++row)
            for (int i = 0; i < atoms_at_once; ++i)
                (rows && i < count ? V::load(at(rows, structure.dim_in, row, n + i, channel), lanes) : V::zero())
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
    const Workspace<T> copies(ContractionTask<T, pass>::by_terms ? ranges * row : 0);
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
    if (!ContractionTask<T, pass>::by_terms) return;
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

}  // namespace
}  // namespace macekit
