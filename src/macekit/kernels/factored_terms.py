"""The terms of a symmetric contraction as products of four variables, grouped by the first two."""

from __future__ import annotations

from typing import NamedTuple

from macekit.kernels.structure import ContractionStructure


class FactoredTerms(NamedTuple):
    """B_M = Σ_groups x[u₁] x[u₂] Σ_entries c x[v₁] x[v₂] in the variables x = (1, a_1 ... a_D).

    Factors that a term does not have are the variable 0. Terms of the same output with the same u are a group.
    """

    groups: list[tuple[int, int, int, int]]
    """Output M, variables u₁ and u₂, and first entry; ascending in the output."""
    entries: list[tuple[int, int, int]]
    """Variables v₁ and v₂, and term."""


def factored_terms(structure: ContractionStructure) -> FactoredTerms:
    """Factor all terms: the first factor times the rest, or two times two where there are four factors."""
    grouped: dict[tuple[int, int, int], list[tuple[int, int, int]]] = {}
    term = 0
    for product in structure.products:
        start = structure.row_out(product.degree)
        for factors, output in zip(product.factors.tolist(), product.outputs.tolist(), strict=True):
            variables = [1 + component for component in factors] + [0, 0]
            split = 2 if len(factors) == 4 else 1
            u1, u2 = variables[0], variables[1] if split == 2 else 0
            v1, v2 = variables[split : split + 2]
            grouped.setdefault((start + output, u1, u2), []).append((v1, v2, term))
            term += 1
    groups: list[tuple[int, int, int, int]] = []
    entries: list[tuple[int, int, int]] = []
    for (output, u1, u2), members in sorted(grouped.items()):
        groups.append((output, u1, u2, len(entries)))
        entries += members
    return FactoredTerms(groups, entries)
