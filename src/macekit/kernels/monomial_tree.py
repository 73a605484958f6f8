"""Polynomials as trees: a product of factors is made once for all monomials that begin with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

Monomial = tuple[int, ...]
"""Number of the polynomial, then the variables that are multiplied, ascending in the order of the tree."""


class MonomialTree(NamedTuple):
    """A tree per polynomial; nodes 0 ... M-1 are the roots. A monomial is a path from a root."""

    factor: list[int]
    """Variable that multiplies a node."""
    term: list[int]
    """Term that multiplies the product of the path to this node; -1: none."""
    first: list[int]
    """First child; the children of a node are consecutive."""
    end: list[int]
    """One after the last child."""


class _Node:
    def __init__(self, factor: int, term: int = -1) -> None:
        self.factor, self.term = factor, term
        self.children: dict[int, _Node] = {}
        self.repeated: list[_Node] = []
        """Leaves for monomials that are there more than once."""


def monomial_tree(monomials: Sequence[Monomial], terms: Sequence[int], num_polynomials: int) -> MonomialTree:
    """The trees of Σ c_term · monomial.

    Args:
        monomials: With one variable or more; one that occurs twice counts twice.
        terms: Which coefficient belongs to each.
        num_polynomials: Number M of polynomials.
    """
    roots = [_Node(row) for row in range(num_polynomials)]
    for (row, *variables), term in zip(monomials, terms, strict=True):
        node = roots[row]
        for variable in variables[:-1]:
            node = node.children.setdefault(variable, _Node(variable))
        last = node.children.setdefault(variables[-1], _Node(variables[-1]))
        if last.term < 0:
            last.term = term
        else:
            node.repeated.append(_Node(variables[-1], term))
    tree = MonomialTree([], [], [], [])
    level, done = roots, num_polynomials
    while level:
        below: list[_Node] = []
        for node in level:
            tree.factor.append(node.factor)
            tree.term.append(node.term)
            tree.first.append(done + len(below))
            below += [*(node.children[variable] for variable in sorted(node.children)), *node.repeated]
            tree.end.append(done + len(below))
        done += len(below)
        level = below
    return tree


def gradient_monomials(monomials: Sequence[Monomial], num_variables: int) -> tuple[list[Monomial], list[int]]:
    """The gradient of Σ_M g_M P_M by the variables of the polynomials P_M.

    Its polynomials are numbered as the variables, and its own variables are those of P followed by the adjoints g.

    Args:
        monomials: Of P.
        num_variables: Number of variables of P.

    Returns:
        The monomials, adjoint first, and for each the number of the monomial it comes from.
    """
    found: list[Monomial] = []
    origins: list[int] = []
    for number, (row, *variables) in enumerate(monomials):
        for variable, times in Counter(variables).items():
            others = list(variables)
            others.remove(variable)
            found += [(variable, num_variables + row, *others)] * times
            origins += [number] * times
    return found, origins


__all__ = ["Monomial", "MonomialTree", "gradient_monomials", "monomial_tree"]
