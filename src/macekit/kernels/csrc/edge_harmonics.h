// Distances and spherical harmonics of edges in float64, with the two products with their Jacobian.
//
// Harmonics are built degree by degree, Y_r = Σ_n c_n Y_a(n) Y_b(n) with Y_a of degree 1 and Y_b of one degree less, some
// edges side by side. Edges shorter than `shortest` are treated as this long, and their length as a constant.
#pragma once

#include <cstdint>
#include <vector>

namespace macekit {

// A term of the recursion: c Y_first Y_second, which is added to Y_row.
struct HarmonicTerm {
    int row, first, second;
    double factor;
};

// Pointers to numbers of edges: vectors [E, 3], lengths [E], harmonics [E, (max_ell + 1)²].
template <class T>
struct EdgeNumbers {
    double *vectors, *lengths;
    T* harmonics;
};

class EdgeHarmonics {
   public:
    // Terms in the order of rows.
    EdgeHarmonics(int max_ell, std::vector<HarmonicTerm> terms);
    // Lengths and harmonics.
    template <class T>
    void measure(std::int64_t edges, const double* vectors, double shortest, const EdgeNumbers<T>& out) const;
    // Gradients by the vectors out of those by lengths and harmonics.
    template <class T>
    void pull(std::int64_t edges, const double* vectors, double shortest, const EdgeNumbers<T>& gradients) const;
    // Tangents of lengths and harmonics out of those of the vectors.
    template <class T>
    void push(std::int64_t edges, const double* vectors, double shortest, const EdgeNumbers<T>& tangents) const;

    int width() const { return (max_ell_ + 1) * (max_ell_ + 1); }

   private:
    int max_ell_;
    std::vector<HarmonicTerm> terms_;
};

}  // namespace macekit
