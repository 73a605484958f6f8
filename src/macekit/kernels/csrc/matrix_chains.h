// Products of a matrix with each of several, one [A, B] times two [S, B, C], for pairs of them; and the gradients.
#pragma once

#include "dense_products.h"

namespace macekit {
namespace {

// Calls body(pair, s) for the pairs and their numbers s = 0 ... S - 1, shared among threads.
template <class T, class Body>
void for_each_product(const MatrixChain<T>* chains, std::int64_t count, int threads, const Body& body) {
    std::int64_t tasks = 0;
    for (std::int64_t n = 0; n < count; ++n) tasks += chains[n].several;
    share(tasks, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        std::int64_t first = 0;
        for (std::int64_t n = 0; n < count; first += chains[n++].several)
            for (std::int64_t s = 0; s < chains[n].several; ++s)
                if (first + s >= begin && first + s < end) body(chains[n], s);
    });
}

template <class T>
void chain(const MatrixChain<T>* chains, std::int64_t count, int threads) {
    for_each_product(chains, count, threads, [](const MatrixChain<T>& c, std::int64_t s) {
        multiply_any(c.two + s * c.inner * c.columns, c.inner, c.columns, 1.0, c.one, c.rows, c.product + s * c.rows * c.columns);
    });
}

// Gradients out of that by the product, those that are asked for.
template <class T>
void chain_backward(const MatrixChain<T>* chains, std::int64_t count, int threads) {
    for_each_product(chains, count, threads, [](const MatrixChain<T>& c, std::int64_t s) {
        if (c.to_two != nullptr)
            sum_columns(c.one, c.inner, c.product + s * c.rows * c.columns, c.columns, c.rows, 1.0, 0, c.columns,
                        c.to_two + s * c.inner * c.columns);
    });
    share(count, 1, threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t n = begin; n < end; ++n) {
            const MatrixChain<T>& c = chains[n];
            for (std::int64_t s = 0; c.to_one != nullptr && s < c.several; ++s)
                multiply_dense(c.two + s * c.inner * c.columns, c.inner, c.columns, 1.0, true,
                               c.product + s * c.rows * c.columns, c.rows, c.to_one, s > 0);
        }
    });
}

}  // namespace
}  // namespace macekit
