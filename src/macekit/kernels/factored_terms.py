"""The terms of a symmetric contraction as products of four variables, nested by their first ones."""

from __future__ import annotations

from typing import NamedTuple

from macekit.kernels.structure import ContractionStructure


class FactoredTerms(NamedTuple):
    """B_M = Σ_groups x[u₁] x[u₂] Σ_pairs x[v] Σ_entries c x[w] in the variables x = (1, a_1 ... a_D).

    Factors that a term does not have are the variable 0. Terms of the same output with the same u are a group, those
    with the same v as well a pair.
    """

    groups: list[tuple[int, int, int, int]]
    """Output M, variables u₁ and u₂, and first pair; ascending in the output."""
    pairs: list[tuple[int, int]]
    """Variable v and first entry."""
    entries: list[tuple[int, int]]
    """Variable w and term."""


def factored_terms(structure: ContractionStructure) -> FactoredTerms:
    """Factor all terms: the first factor alone, or the first two where there are four factors, then one by one."""
    found: list[tuple[int, int, int, int, int, int]] = []  # (M, u₁, u₂, v, w, term)
    for product in structure.products:
        start = structure.row_out(product.degree)
        for factors, output in zip(product.factors.tolist(), product.outputs.tolist(), strict=True):
            variables = [1 + component for component in factors]
            if len(variables) < 4:
                variables = [variables[0], 0, *variables[1:], 0, 0][:4]
            u1, u2, v, w = variables
            found.append((start + output, u1, u2, v, w, len(found)))
    terms = FactoredTerms([], [], [])
    group: tuple[int, ...] = ()
    pair: tuple[int, ...] = ()
    for output, u1, u2, v, w, term in sorted(found):
        if (output, u1, u2) != group:
            group, pair = (output, u1, u2), ()
            terms.groups.append((output, u1, u2, len(terms.pairs)))
        if (v,) != pair:
            pair = (v,)
            terms.pairs.append((v, len(terms.entries)))
        terms.entries.append((w, term))
    return terms
