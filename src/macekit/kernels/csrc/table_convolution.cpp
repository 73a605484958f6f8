// The edge convolution with a table, for one instruction set and precision: MACEKIT_KERNELS and MACEKIT_REAL.
#include "table_convolution_passes.h"
#include "table_opening.h"

namespace macekit {
namespace MACEKIT_KERNELS {

template <class T, int max_ell>
TableSweeps<T> table_sweeps(int l_in);
template <>
TableSweeps<MACEKIT_REAL> table_sweeps<MACEKIT_REAL, 0>(int l_in);
template <>
TableSweeps<MACEKIT_REAL> table_sweeps<MACEKIT_REAL, 1>(int l_in);
template <>
TableSweeps<MACEKIT_REAL> table_sweeps<MACEKIT_REAL, 2>(int l_in);
template <>
TableSweeps<MACEKIT_REAL> table_sweeps<MACEKIT_REAL, 3>(int l_in);
template <>
TableSweeps<MACEKIT_REAL> table_sweeps<MACEKIT_REAL, 4>(int l_in);

namespace {

template <class T>
TableSweeps<T> sweeps_of(int max_ell, int l_in) {
    switch (max_ell) {
        case 0: return table_sweeps<T, 0>(l_in);
        case 1: return table_sweeps<T, 1>(l_in);
        case 2: return table_sweeps<T, 2>(l_in);
        case 3: return table_sweeps<T, 3>(l_in);
        default: return table_sweeps<T, 4>(l_in);
    }
}

// Flags in the order of `TableMakes`.
template <class T, bool out, bool to_h, bool tangent, bool geometry, bool weights, bool both>
void run(const ConvolutionStructure<T>& structure, const Edges& edges, const TableArguments<T>& arguments, int threads) {
    if (arguments.opened == nullptr) {
        const EdgeMemory<T> own(edges.count, structure.harmonics(), arguments.rows, tangent);
        const OpenedEdges<T> opened = own.view();
        open_edges(structure, edges, arguments, opened, threads);
        TableArguments<T> with_edges = arguments;
        with_edges.opened = &opened;
        return run<T, out, to_h, tangent, geometry, weights, both>(structure, edges, with_edges, threads);
    }
    const bool asked = weights && (arguments.to_table != nullptr || !geometry);
    TablePass<T>{structure, edges, arguments, threads, sweeps_of<T>, {out, to_h, tangent, geometry, asked, both}}.run();
}

}  // namespace

template <class T>
TableKernels<T> table_kernels();

template <>
TableKernels<MACEKIT_REAL> table_kernels<MACEKIT_REAL>() {
    using T = MACEKIT_REAL;
    return {{run<T, true, false, false, false, false, false>, run<T, false, true, false, true, true, false>,
             run<T, true, true, true, true, true, false>, run<T, true, false, true, false, false, false>,
             run<T, false, true, true, false, true, true>},
            open_edges<T>};
}

}  // namespace MACEKIT_KERNELS
}  // namespace macekit
