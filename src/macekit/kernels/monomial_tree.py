"""The monomials of a symmetric contraction as trees: a product of factors is made once for all that share it."""

from __future__ import annotations

from typing import NamedTuple

from macekit.kernels.structure import ContractionStructure


class MonomialTree(NamedTuple):
    """A tree per output component; nodes 0 ... M-1 are the roots. A monomial is a path from a root."""

    factor: list[int]
    """Component that multiplies a node."""
    term: list[int]
    """Term whose monomial ends here; -1: none."""
    first: list[int]
    """First child; the children of a node are consecutive."""
    end: list[int]
    """One after the last child."""


def monomial_tree(structure: ContractionStructure) -> MonomialTree:
    """The trees of a contraction, children in the order of their components."""
    term_of: dict[tuple[int, ...], int] = {}  # (output, factors ...)
    count = 0
    for product in structure.products:
        start = structure.row_out(product.degree)
        for factors, output in zip(product.factors.tolist(), product.outputs.tolist(), strict=True):
            term_of[(start + output, *factors)] = count
            count += 1
    prefixes = {monomial[:length] for monomial in term_of for length in range(2, len(monomial) + 1)}
    children: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for prefix in sorted(prefixes):
        children.setdefault(prefix[:-1], []).append(prefix)
    tree = MonomialTree([], [], [], [])
    level: list[tuple[int, ...]] = [(output,) for output in range(structure.dim_out)]
    done = len(level)
    while level:
        below: list[tuple[int, ...]] = []
        for node in level:
            tree.factor.append(node[-1])
            tree.term.append(term_of.get(node, -1))
            tree.first.append(done + len(below))
            below += children.get(node, [])
            tree.end.append(done + len(below))
        done += len(below)
        level = below
    return tree
