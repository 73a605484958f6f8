"""The terms of a symmetric contraction as entries of a sparse matrix between products of two variables."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from typing import NamedTuple

from macekit.kernels.structure import ContractionStructure

Row = tuple[int, int, int]
Column = tuple[int, int]


class FactoredTerms(NamedTuple):
    """B_M = Σ_rows x[u₁] x[u₂] Σ_columns c x[v] x[w] in the variables x = (1, a_1 ... a_D).

    Factors that a term does not have are the variable 0.
    """

    rows: list[Row]
    """Output M and variables u₁ and u₂; ascending in the output, then in the number of entries."""
    columns: list[Column]
    """Variables v and w; ascending in the number of entries."""
    entries: list[tuple[int, int, int]]
    """Row, column and term; ascending."""


def factored_terms(structure: ContractionStructure) -> FactoredTerms:
    """Factor all terms with few rows and columns, one column after another.

    The next column is the one with the most terms for a column and half of every row that it adds.
    """
    ways = [_ways(*monomial) for monomial in structure.monomials()]
    served: dict[Column, dict[int, Row]] = defaultdict(dict)
    for term, rows_of in enumerate(ways):
        for column, row in rows_of.items():
            served[column][term] = row
    found: list[tuple[Row, Column, int]] = []
    row_length: Counter[Row] = Counter()

    def worth(column: Column) -> tuple[float, Column]:
        added = set(served[column].values()) - row_length.keys()
        return len(served[column]) / (1 + 0.5 * len(added)), column

    while len(found) < len(ways):
        best = max(served, key=worth)
        for term, row in served.pop(best).items():
            found.append((row, best, term))
            row_length[row] += 1
            for other in ways[term].keys() - {best}:
                del served[other][term]
    column_length = Counter(column for _, column, _ in found)
    rows = sorted(row_length, key=lambda row: (row[0], row_length[row], row))
    columns = sorted(column_length, key=lambda column: (column_length[column], column))
    row_number, column_number = ({key: n for n, key in enumerate(keys)} for keys in (rows, columns))
    entries = sorted((row_number[row], column_number[column], term) for row, column, term in found)
    return FactoredTerms(rows, columns, entries)


def _ways(output: int, *factors: int) -> dict[Column, Row]:
    """The row for every column that a term can have."""
    variables = sorted(1 + factor for factor in factors)
    variables = [0] * (3 - len(variables)) + variables
    ways: dict[Column, Row] = {}
    for v, w in combinations(range(len(variables)), 2):
        rest = [variables[n] for n in range(len(variables)) if n not in (v, w)]
        u1, u2 = [0] * (2 - len(rest)) + rest
        ways[variables[v], variables[w]] = (output, u1, u2)
    return ways


__all__ = ["Column", "FactoredTerms", "Row", "factored_terms"]
