// What the sweeps over edges of the convolution with a table are given, and the sweeps that there are.
#pragma once

#include "arguments.h"

namespace macekit {

// What the edges of one block of channels are made of.
template <class T>
struct TableEdges {
    const PackedEdge* edges;
    const T* splines;  // [edge][kSplineNumbers]
    const T *y, *dy;   // [edge][harmonics]
    const T* table;    // packed, [degree][row][path of the degree][lanes]
    std::int64_t rows;
    const T *h, *dh;  // packed, atoms h_step and dh_step apart; dh_step is 0 where the tangent is one atom of zeros
    std::int64_t h_step, dh_step;
};

// Where the gradients of the edges of a receiver come from and go to. With a tangent, `pulled` is G of the gradient by
// the tangent of the output and `besides`, where there is one, G of that by the output itself.
template <class T>
struct TableGradients {
    const T *pulled, *besides;
    T *to_h, *to_table;  // packed in the same way
    T* to_geometry;      // sums over lanes still to be made, [edge][harmonics, then distance][lanes], from the first edge on
};

// The sweeps for features of one degree.
template <class T>
struct TableSweeps {
    using Sum = void (*)(const TableEdges<T>&, std::int64_t begin, std::int64_t end, const SenderDegree&, T* products);
    using Pull = void (*)(const TableEdges<T>&, std::int64_t begin, std::int64_t end, const SenderDegree&,
                          const TableGradients<T>&);
    Sum values, tangents;
    Pull by_geometry, by_all, tangents_by_all, both_by_weights;
};

}  // namespace macekit
