// The four sweeps of training through the read-outs of scalars; see `kernels/reference_readouts.py`. Little work beside
// that of the layers: one thread, an atom after another.
#pragma once

#include <cmath>
#include <memory>
#include <vector>

#include "arguments.h"
#include "exponential.h"
#include "vector.h"
#include "workspace.h"

namespace macekit {
namespace {

// Calls body(Number<n>, first) for n whole registers from the number `first` on, and tail(part, first) for what is left.
template <class T, class Body, class Tail>
MACEKIT_INLINE void by_registers(std::int64_t count, const Body& body, const Tail& tail) {
    constexpr std::int64_t lanes = Register<T>::lanes;
    std::int64_t n = 0;
    for (; n + 4 * lanes <= count; n += 4 * lanes) body(Number<4>(), n);
    for (; n + 2 * lanes <= count; n += 2 * lanes) body(Number<2>(), n);
    for (; n + lanes <= count; n += lanes) body(Number<1>(), n);
    if (n < count) tail(Partial{static_cast<int>(count - n)}, n);
}

// to [width] = Σ_k factors[k] rows[k, :].
template <class T>
void combine(const T* factors, std::int64_t count, const T* rows, std::int64_t width, T* to) {
    using V = Register<T>;
    by_registers<T>(width, [&](auto several, std::int64_t n) MACEKIT_LAMBDA {
        V sums[several.value];
        repeat<several.value>([&](auto i) MACEKIT_LAMBDA { sums[i.value] = V::zero(); });
        for (std::int64_t k = 0; k < count; ++k) {
            const V factor = V::all(factors[k]);
            repeat<several.value>([&](auto i) MACEKIT_LAMBDA {
                sums[i.value] = fma(factor, V::load(rows + k * width + n + i.value * V::lanes), sums[i.value]);
            });
        }
        repeat<several.value>([&](auto i) MACEKIT_LAMBDA { sums[i.value].store(to + n + i.value * V::lanes); });
    }, [&](Partial part, std::int64_t n) MACEKIT_LAMBDA {
        V sum = V::zero();
        for (std::int64_t k = 0; k < count; ++k)
            sum = fma(V::all(factors[k]), V::load(rows + k * width + n, part), sum);
        sum.store(to + n, part);
    });
}

template <class T>
T dot(const T* x, const T* y, std::int64_t count) {
    using V = Register<T>;
    V sum = V::zero();
    by_registers<T>(count, [&](auto several, std::int64_t n) MACEKIT_LAMBDA {
        repeat<several.value>([&](auto i) MACEKIT_LAMBDA {
            sum = fma(V::load(x + n + i.value * V::lanes), V::load(y + n + i.value * V::lanes), sum);
        });
    }, [&](Partial part, std::int64_t n) MACEKIT_LAMBDA {
        sum = fma(V::load(x + n, part), V::load(y + n, part), sum);
    });
    return sum.sum();
}

// sums [count, width] += x y^T.
template <class T>
void add_products(const T* x, std::int64_t count, const T* y, std::int64_t width, T* sums) {
    using V = Register<T>;
    by_registers<T>(width, [&](auto several, std::int64_t n) MACEKIT_LAMBDA {
        V factors[several.value];
        repeat<several.value>([&](auto i) MACEKIT_LAMBDA { factors[i.value] = V::load(y + n + i.value * V::lanes); });
        for (std::int64_t k = 0; k < count; ++k) {
            const V each = V::all(x[k]);
            T* row = sums + k * width + n;
            repeat<several.value>([&](auto i) MACEKIT_LAMBDA {
                fma(each, factors[i.value], V::load(row + i.value * V::lanes)).store(row + i.value * V::lanes);
            });
        }
    }, [&](Partial part, std::int64_t n) MACEKIT_LAMBDA {
        const V factors = V::load(y + n, part);
        for (std::int64_t k = 0; k < count; ++k) {
            T* row = sums + k * width + n;
            fma(V::all(x[k]), factors, V::load(row, part)).store(row, part);
        }
    });
}

// matrix [rows, columns] over √rows, or its transpose.
template <class T>
class ScaledMatrix {
   public:
    ScaledMatrix(const T* matrix, std::int64_t rows, std::int64_t columns, bool transposed)
        : width_(transposed ? rows : columns), numbers_(rows * columns) {
        const T factor = static_cast<T>(1.0 / std::sqrt(static_cast<double>(rows)));
        for (std::int64_t i = 0; i < rows; ++i)
            for (std::int64_t j = 0; j < columns; ++j)
                numbers_.data()[transposed ? j * rows + i : i * columns + j] = factor * matrix[i * columns + j];
    }
    const T* row(std::int64_t i) const { return numbers_.data() + i * width_; }

   private:
    std::int64_t width_;
    Workspace<T> numbers_;
};

// The sum of outer products that is the gradient by a matrix [rows, columns], or its transpose.
template <class T>
class SummedMatrix {
   public:
    SummedMatrix(T* out, std::int64_t rows, std::int64_t columns, bool transposed)
        : out_(out), rows_(rows), columns_(columns), transposed_(transposed), numbers_(rows * columns) {
        numbers_.clear(rows * columns);
    }
    void add(const T* x, const T* y) const {
        const std::int64_t rows = transposed_ ? columns_ : rows_, width = transposed_ ? rows_ : columns_;
        add_products(transposed_ ? y : x, rows, transposed_ ? x : y, width, numbers_.data());
    }
    void write() const {
        if (out_ == nullptr) return;
        const T factor = static_cast<T>(1.0 / std::sqrt(static_cast<double>(rows_)));
        for (std::int64_t i = 0; i < rows_; ++i)
            for (std::int64_t j = 0; j < columns_; ++j)
                out_[i * columns_ + j] = factor * numbers_.data()[transposed_ ? j * rows_ + i : i * columns_ + j];
    }

   private:
    T* out_;
    std::int64_t rows_, columns_;
    bool transposed_;
    Workspace<T> numbers_;
};

template <class T>
class ReadoutSweeps {
   public:
    using Arguments = ReadoutArguments<T>;

    static void values(const Arguments& a, T* z, T* out) {
        const ReadoutSweeps sweeps(a);
        for (std::int64_t n = 0; n < a.atoms; ++n) {
            T *own = z + n * a.units, *total = out + n * a.targets;
            sweeps.before_activation(a.features, n, own);
            sweeps.activate(own);
            sweeps.output(a.features, n, sweeps.value_.data(), total);
        }
    }

    static void geometry(const Arguments& a, const T* z, const T* grad, T* const* to_features) {
        const ReadoutSweeps sweeps(a);
        for (std::int64_t n = 0; n < a.atoms; ++n) {
            T* to_z = sweeps.to_z_.data();
            sweeps.activate(z + n * a.units);
            sweeps.to_hidden(grad + n * a.targets, to_z);
            for (std::int64_t u = 0; u < a.units; ++u) to_z[u] *= sweeps.slope_.data()[u];
            sweeps.to_features(grad + n * a.targets, to_z, n, to_features);
        }
    }

    static void tangents(const Arguments& a, const T* z, const T* const* features, T* d_z, T* out) {
        const ReadoutSweeps sweeps(a);
        for (std::int64_t n = 0; n < a.atoms; ++n) {
            T *own = d_z + n * a.units, *moved = sweeps.to_z_.data();
            sweeps.before_activation(features, n, own);
            sweeps.activate(z + n * a.units);
            for (std::int64_t u = 0; u < a.units; ++u) moved[u] = sweeps.slope_.data()[u] * own[u];
            sweeps.output(features, n, moved, out + n * a.targets);
        }
    }

    static void weights(const Arguments& a, const T* z, const T* grad, const ReadoutTangents<T>& tangents,
                        T* const* to_features, T* const* gradients) {
        const ReadoutSweeps sweeps(a);
        const Gradients found(a, gradients);
        const Workspace<T> none(a.targets);
        none.clear(a.targets);
        for (std::int64_t n = 0; n < a.atoms; ++n)
            sweeps.weights_of_atom(n, z, grad == nullptr ? none.data() : grad + n * a.targets, tangents, to_features, found);
        found.write();
    }

   private:
    // Gradients by all matrices; those of the layers that are read linearly are summed as their transposes.
    struct Gradients {
        std::vector<std::unique_ptr<SummedMatrix<T>>> linear;
        SummedMatrix<T> first, second;
        Gradients(const Arguments& a, T* const* gradients)
            : first(gradients[a.layers - 1], a.channels, a.units, false),
              second(gradients[a.layers], a.units, a.targets, true) {
            for (std::int64_t l = 0; l + 1 < a.layers; ++l)
                linear.push_back(std::make_unique<SummedMatrix<T>>(gradients[l], a.channels, a.targets, true));
        }
        void write() const {
            for (const auto& each : linear) each->write();
            first.write();
            second.write();
        }
    };

    explicit ReadoutSweeps(const Arguments& a)
        : a_(a), first_(a.matrices[a.layers - 1], a.channels, a.units, false),
          first_transposed_(a.matrices[a.layers - 1], a.channels, a.units, true),
          second_transposed_(a.matrices[a.layers], a.units, a.targets, true), value_(a.units), slope_(a.units), curvature_(a.units),
          to_z_(a.units), other_(a.units), moved_(a.units) {
        for (std::int64_t l = 0; l + 1 < a.layers; ++l)
            linear_.push_back(std::make_unique<ScaledMatrix<T>>(a.matrices[l], a.channels, a.targets, true));
    }

    const T* scalars(const T* const* features, std::int64_t layer, std::int64_t n) const {
        return features[layer] == nullptr ? nullptr : features[layer] + n * a_.widths[layer];
    }

    // x W₁ of one atom.
    void before_activation(const T* const* features, std::int64_t n, T* z) const {
        const T* x = scalars(features, a_.layers - 1, n);
        combine(x, x == nullptr ? 0 : a_.channels, first_.row(0), a_.units, z);
    }

    // f(z) and its derivatives.
    void activate(const T* z) const {
        T *value = value_.data(), *slope = slope_.data(), *curvature = curvature_.data();
        const T norm = static_cast<T>(a_.norm);
        for (std::int64_t u = 0; u < a_.units; ++u) {
            const T sigmoid = 1 / (1 + exponential(-z[u])), falling = 1 - sigmoid;
            value[u] = norm * z[u] * sigmoid;
            slope[u] = norm * sigmoid * (1 + z[u] * falling);
            curvature[u] = norm * sigmoid * falling * (2 + z[u] * (falling - sigmoid));
        }
    }

    void output(const T* const* features, std::int64_t n, const T* hidden, T* out) const {
        for (std::int64_t t = 0; t < a_.targets; ++t) out[t] = dot(hidden, second_transposed_.row(t), a_.units);
        for (std::int64_t l = 0; l + 1 < a_.layers; ++l)
            if (const T* x = scalars(features, l, n))
                for (std::int64_t t = 0; t < a_.targets; ++t) out[t] += dot(x, linear_[l]->row(t), a_.channels);
    }

    // The gradient by f(z), given that by the output.
    void to_hidden(const T* grad, T* hidden) const {
        combine(grad, a_.targets, second_transposed_.row(0), a_.units, hidden);
    }

    // By the features of every layer; zero but for the scalars.
    void to_features(const T* grad, const T* to_z, std::int64_t n, T* const* found) const {
        for (std::int64_t l = 0; l < a_.layers; ++l) {
            T* to = found[l] + n * a_.widths[l];
            if (l + 1 < a_.layers)
                combine(grad, a_.targets, linear_[l]->row(0), a_.channels, to);
            else
                combine(to_z, a_.units, first_transposed_.row(0), a_.channels, to);
            std::memset(to + a_.channels, 0, static_cast<std::size_t>(a_.widths[l] - a_.channels) * sizeof(T));
        }
    }

    void weights_of_atom(std::int64_t n, const T* z, const T* grad, const ReadoutTangents<T>& tangents,
                         T* const* found, const Gradients& sums) const {
        const std::int64_t last = a_.layers - 1;
        T *to_z = to_z_.data(), *slope = slope_.data();
        activate(z + n * a_.units);
        to_hidden(grad, to_z);
        for (std::int64_t u = 0; u < a_.units; ++u) to_z[u] *= slope[u];
        if (tangents.adjoint != nullptr) {
            const T *adjoint = tangents.adjoint + n * a_.targets, *d_z = tangents.z + n * a_.units;
            T *other = other_.data(), *moved = moved_.data();
            to_hidden(adjoint, other);
            for (std::int64_t u = 0; u < a_.units; ++u) {
                to_z[u] += other[u] * curvature_.data()[u] * d_z[u];
                other[u] *= slope[u];
                moved[u] = slope[u] * d_z[u];
            }
            sums.second.add(moved, adjoint);
            if (const T* x = scalars(tangents.features, last, n)) sums.first.add(x, other);
            for (std::int64_t l = 0; l < last; ++l)
                if (const T* x = scalars(tangents.features, l, n)) sums.linear[l]->add(x, adjoint);
        }
        sums.second.add(value_.data(), grad);
        sums.first.add(scalars(a_.features, last, n), to_z);
        for (std::int64_t l = 0; l < last; ++l) sums.linear[l]->add(scalars(a_.features, l, n), grad);
        to_features(grad, to_z, n, found);
    }

    const Arguments a_;
    const ScaledMatrix<T> first_, first_transposed_, second_transposed_;
    std::vector<std::unique_ptr<ScaledMatrix<T>>> linear_;
    Workspace<T> value_, slope_, curvature_;  // of one atom, from `activate`
    Workspace<T> to_z_, other_, moved_;
};

}  // namespace
}  // namespace macekit
