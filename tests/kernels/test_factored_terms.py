"""The contraction's terms as entries of a sparse matrix."""

import pytest

from macekit.kernels.factored_terms import factored_terms
from macekit.kernels.structure import ContractionStructure


@pytest.mark.parametrize("key", ["1|0.1|1", "2|0|2", "3|0.1|3", "3|0.1|3|cancelling", "2|0.1|4"])
def test_every_term_once_with_its_own_factors(key: str) -> None:
    structure = ContractionStructure.from_key(key)
    terms = factored_terms(structure)
    found = {}
    for row, column, term in terms.entries:
        output, *variables = *terms.rows[row], *terms.columns[column]
        found[term] = (output, *sorted(variable - 1 for variable in variables if variable > 0))
    assert len(terms.entries) == structure.num_terms
    assert [found[term] for term in range(structure.num_terms)] == [
        (output, *sorted(factors)) for output, *factors in structure.monomials()
    ]


@pytest.mark.parametrize("key", ["3|0.1|3", "3|0|3"])
def test_products_are_shared(key: str) -> None:
    """The cost of the kernels is that of their entries only as long as there are few rows and columns."""
    terms = factored_terms(ContractionStructure.from_key(key))
    assert len(terms.rows) + len(terms.columns) < 0.6 * len(terms.entries)


def test_order_serves_the_kernels() -> None:
    terms = factored_terms(ContractionStructure.from_key("3|0.1|3"))
    assert [row[0] for row in terms.rows] == sorted(row[0] for row in terms.rows)
    assert terms.entries == sorted(terms.entries)
