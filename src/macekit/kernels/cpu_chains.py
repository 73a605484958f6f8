"""Products of pairs of matrices in C++; see `kernels.reference_chains`, which defines them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from macekit.kernels import _core, reference_chains
from macekit.kernels.cpu_arguments import addresses, how_to_run, lanes, plain

Sizes = tuple[int, int, int, int]


def matrix_chains(ones: Sequence[Tensor], twos: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The product of every pair; columns that leave a remainder of a register go through torch."""
    sizes = _sizes(ones, twos)
    if not _has_whole_registers(sizes, twos):
        return reference_chains.matrix_chains(ones, twos)
    products = tuple(
        two.new_empty(*two.shape[:-2], rows, columns) for two, (rows, _, columns, _) in zip(twos, sizes, strict=True)
    )
    _run(False, sizes, ones, twos, products, [None] * (2 * len(ones)))
    return products


def matrix_chains_backward(
    ones: Sequence[Tensor], twos: Sequence[Tensor], grads: Sequence[Tensor], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """Gradients by the first matrices of all pairs, then by the second ones, as far as they are wanted."""
    sizes, width = _sizes(ones, twos), lanes(twos[0].dtype)
    is_whole = all(inner % width == 0 for (_, inner, _, _), is_wanted in zip(sizes, wanted, strict=False) if is_wanted)
    if not (is_whole and _has_whole_registers(sizes, twos)):
        return reference_chains.matrix_chains_backward(ones, twos, grads, wanted)
    found = [m.new_empty(m.shape) if is_wanted else None for m, is_wanted in zip((*ones, *twos), wanted, strict=True)]
    _run(True, sizes, ones, twos, grads, found)
    return found


def _run(
    backward: bool,
    sizes: list[Sizes],
    ones: Sequence[Tensor],
    twos: Sequence[Tensor],
    products: Sequence[Tensor],
    found: Sequence[Tensor | None],
) -> None:
    count, dtype, given = len(ones), twos[0].dtype, []
    for n, (rows, inner, columns, _) in enumerate(sizes):
        batch = twos[n].shape[:-2]
        one = plain("one", ones[n], (rows, inner), dtype)
        two = plain("two", twos[n], (*batch, inner, columns), dtype)
        given.append((one, two, plain("grad", products[n], (*batch, rows, columns), dtype), found[n], found[count + n]))
    work = sum(rows * inner * columns * several for rows, inner, columns, several in sizes)
    _core.matrix_chains(how_to_run(dtype, work), backward, sizes, [addresses(tensors) for tensors in given])


def _sizes(ones: Sequence[Tensor], twos: Sequence[Tensor]) -> list[Sizes]:
    """A, B, C and S of every pair."""
    return [
        (one.shape[0], one.shape[1], two.shape[-1], 1 if two.dim() == 2 else two.shape[0])
        for one, two in zip(ones, twos, strict=True)
    ]


def _has_whole_registers(sizes: list[Sizes], twos: Sequence[Tensor]) -> bool:
    width = lanes(twos[0].dtype)
    return all(columns % width == 0 for _, _, columns, _ in sizes)
