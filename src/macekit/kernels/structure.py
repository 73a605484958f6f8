"""The coupling structure of the two equivariant operations: which components couple, with which coefficients.

A structure is named by a short key, so that custom operators can refer to it by a string.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from macekit.o3 import SymmetricProduct, clebsch_gordan, symmetric_product, wigner_3j, with_cancelling_terms

LARGEST_TABLE_DEGREE = 2
"""Of the sender's features, in compiled kernels that take radial functions out of a table."""


@dataclass(frozen=True, slots=True)
class Path:
    """One coupling (l_in ⊗ l_sh → l_out) of the edge convolution."""

    l_in: int
    """Degree of the sender's features."""
    l_sh: int
    """Degree of the spherical harmonics."""
    l_out: int
    """Degree of the message."""
    index: int
    """Position among the paths, which is that of its radial function."""
    index_in_degree: int
    """Position among the paths with the same l_out."""


@dataclass(frozen=True, eq=False)
class ConvolutionStructure:
    """Paths of the edge convolution, in e3nn's order: ascending l_out, then l_in, then l_sh.

    The output holds for each l_out its 2l+1 components, and for each component one row per path. There is one object
    for every key.
    """

    degrees_in: tuple[int, ...]
    """Degrees of the sender's features, ascending; every one once."""
    max_ell: int
    """Highest degree of the spherical harmonics and of the messages."""
    paths: tuple[Path, ...]
    """All couplings with natural parity."""
    is_rounded: bool = False
    """Whether the 3j symbols are those of float32, as in models imported from float32 files."""

    @staticmethod
    def key(degrees_in: tuple[int, ...], max_ell: int, is_rounded: bool = False) -> str:
        """The name of the structure, such as `0.1|3`."""
        return f"{'.'.join(map(str, degrees_in))}|{max_ell}{'|float32' if is_rounded else ''}"

    @staticmethod
    @cache
    def from_key(key: str) -> ConvolutionStructure:
        """The structure of a name."""
        degrees, max_ell_text, *rounded = key.split("|")
        degrees_in = tuple(int(l) for l in degrees.split("."))
        max_ell = int(max_ell_text)
        couplings = [
            (l_in, l_sh, l_out)
            for l_in in degrees_in
            for l_sh in range(max_ell + 1)
            for l_out in range(abs(l_in - l_sh), min(l_in + l_sh, max_ell) + 1)
            if (l_in + l_sh + l_out) % 2 == 0
        ]
        couplings.sort(key=lambda coupling: coupling[2])
        seen: dict[int, int] = {}
        paths = []
        for index, (l_in, l_sh, l_out) in enumerate(couplings):
            paths.append(Path(l_in, l_sh, l_out, index, seen.get(l_out, 0)))
            seen[l_out] = seen.get(l_out, 0) + 1
        return ConvolutionStructure(degrees_in, max_ell, tuple(paths), bool(rounded))

    def degrees_out(self) -> tuple[int, ...]:
        """Degrees that occur in the messages, ascending."""
        return tuple(sorted({path.l_out for path in self.paths}))

    def paths_to(self, degree: int) -> tuple[Path, ...]:
        """Paths that end in one degree, in order."""
        return tuple(path for path in self.paths if path.l_out == degree)

    def rows_out(self, degree: int) -> slice:
        """Rows of the output that belong to a degree."""
        start = sum((2 * l + 1) * len(self.paths_to(l)) for l in self.degrees_out() if l < degree)
        return slice(start, start + (2 * degree + 1) * len(self.paths_to(degree)))

    @cached_property
    def dim_out(self) -> int:
        """Number of rows of the output."""
        return sum(2 * path.l_out + 1 for path in self.paths)

    @cached_property
    def dim_in(self) -> int:
        """Number of rows of the sender's features."""
        return sum(2 * l + 1 for l in self.degrees_in)

    def path_of_column(self) -> list[int]:
        """Path of every column of the coupling, [C]; a column is a path with a component of the sender."""
        return [path.index for path in self.paths for _ in range(2 * path.l_in + 1)]

    def input_of_column(self) -> list[int]:
        """Row of the sender's features of every column of the coupling, [C]."""
        start = {l: sum(2 * other + 1 for other in self.degrees_in if other < l) for l in self.degrees_in}
        return [start[path.l_in] + m for path in self.paths for m in range(2 * path.l_in + 1)]

    def coupling(self) -> NDArray[np.float64]:
        """Coefficients [(max_ell+1)², D_out, C]: component of the harmonics, row of the output, column."""
        columns = self.path_of_column()
        coefficients = np.zeros(((self.max_ell + 1) ** 2, self.dim_out, len(columns)))
        for path in self.paths:
            rows = self.rows_out(path.l_out)
            rows = slice(rows.start + path.index_in_degree, rows.stop, len(self.paths_to(path.l_out)))
            first = columns.index(path.index)
            harmonics = slice(path.l_sh**2, (path.l_sh + 1) ** 2)
            coupling = clebsch_gordan(path.l_in, path.l_sh, path.l_out)
            if self.is_rounded and min(path.l_in, path.l_sh, path.l_out) > 0:  # e3nn couples scalars without 3j symbols
                rounded = wigner_3j(path.l_in, path.l_sh, path.l_out).astype(np.float32).astype(np.float64)
                coupling = np.sqrt(2 * path.l_out + 1) * rounded
            coefficients[harmonics, rows, first : first + 2 * path.l_in + 1] = coupling.transpose(1, 2, 0)
        return coefficients


@dataclass(frozen=True, eq=False)
class ContractionStructure:
    """Polynomials of the symmetric contraction for all output degrees and orders together; one object for every key."""

    max_ell: int
    """Highest degree of the input; each of 0 ... max_ell once."""
    degrees_out: tuple[int, ...]
    """Degrees of the output, ascending."""
    products: tuple[SymmetricProduct, ...]
    """Bases in the order (order ν, output degree)."""
    has_cancelling: bool = False
    """Whether there are terms that cancel in exact couplings, as in models imported from float32 files."""

    @staticmethod
    def key(max_ell: int, degrees_out: tuple[int, ...], correlation: int, has_cancelling: bool = False) -> str:
        """The name of the structure, such as `3|0.1|3`."""
        return f"{max_ell}|{'.'.join(map(str, degrees_out))}|{correlation}{'|cancelling' if has_cancelling else ''}"

    @staticmethod
    @cache
    def from_key(key: str) -> ContractionStructure:
        """The structure of a name."""
        max_ell, degrees, correlation, *cancelling = key.split("|")
        basis = with_cancelling_terms if cancelling else symmetric_product
        degrees_out = tuple(int(l) for l in degrees.split("."))
        products = tuple(
            basis(int(max_ell), degree, order) for order in range(1, int(correlation) + 1) for degree in degrees_out
        )
        return ContractionStructure(int(max_ell), degrees_out, products, bool(cancelling))

    @cached_property
    def dim_in(self) -> int:
        """Number of input components."""
        return (self.max_ell + 1) ** 2

    @cached_property
    def dim_out(self) -> int:
        """Number of output components."""
        return sum(2 * l + 1 for l in self.degrees_out)

    def row_out(self, degree: int) -> int:
        """First output component of a degree."""
        return sum(2 * l + 1 for l in self.degrees_out if l < degree)

    @cached_property
    def num_terms(self) -> int:
        """Number of monomials with their output component, over all products."""
        return sum(len(product.outputs) for product in self.products)

    def monomials(self) -> list[tuple[int, ...]]:
        """Output component and factors of every term."""
        return [
            (self.row_out(product.degree) + output, *factors)
            for product in self.products
            for factors, output in zip(product.factors.tolist(), product.outputs.tolist(), strict=True)
        ]

    @property
    def num_functions(self) -> int:
        """Number of weights per channel and element."""
        return sum(product.num_functions for product in self.products)

    def basis(self) -> NDArray[np.float64]:
        """Block-diagonal matrix [T, F] from weights to coefficients of terms."""
        matrix = np.zeros((self.num_terms, self.num_functions))
        row = column = 0
        for product in self.products:
            terms, functions = product.coefficients.shape
            matrix[row : row + terms, column : column + functions] = product.coefficients
            row, column = row + terms, column + functions
        return matrix

    def initial_scale(self) -> NDArray[np.float64]:
        """Standard deviation [F] of initial weights: one over the number of coupling trees, as in MACE."""
        return np.concatenate(
            [np.full(product.num_functions, 1.0 / max(product.num_paths, 1)) for product in self.products]
        )


class TableStructure(NamedTuple):
    """An edge convolution whose radial functions are in a table."""

    convolution: ConvolutionStructure


class ConvolutionTables(NamedTuple):
    """A convolution's structure as tensors."""

    coupling: Tensor
    """[L, D_out · C], from harmonics to the matrix of every edge."""
    path_of_column: Tensor
    """int64 [C]."""
    input_of_column: Tensor
    """int64 [C]."""
    num_columns: int
    """C."""


@cache
def convolution_tables(key: str, dtype: torch.dtype, device: torch.device) -> ConvolutionTables:
    """The tables of a `ConvolutionStructure`, made once for each precision and device."""
    structure = ConvolutionStructure.from_key(key)
    coupling = torch.as_tensor(structure.coupling(), dtype=dtype, device=device)
    return ConvolutionTables(
        coupling=coupling.flatten(1),
        path_of_column=torch.tensor(structure.path_of_column(), device=device),
        input_of_column=torch.tensor(structure.input_of_column(), device=device),
        num_columns=coupling.shape[2],
    )


class OrderTables(NamedTuple):
    """The terms of one order of a contraction as tensors."""

    terms: slice
    """Their range among all terms."""
    factors: list[Tensor]
    """Component of every factor, [ν] of int64 [T]."""
    collect: Tensor
    """Sums over the terms of every output component, [M, T]."""


@cache
def contraction_tables(key: str, dtype: torch.dtype, device: torch.device) -> list[OrderTables]:
    """The tables of a `ContractionStructure`, an entry per order, made once for each precision and device."""
    structure = ContractionStructure.from_key(key)
    tables = []
    start = 0
    for order in sorted({product.order for product in structure.products}):
        products = [product for product in structure.products if product.order == order]
        factors = np.concatenate([product.factors for product in products])
        outputs = np.concatenate([product.outputs + structure.row_out(product.degree) for product in products])
        collect = np.zeros((structure.dim_out, len(outputs)))
        collect[outputs, np.arange(len(outputs))] = 1.0
        tables.append(
            OrderTables(
                terms=slice(start, start + len(outputs)),
                factors=[torch.as_tensor(column.copy(), device=device) for column in factors.T],
                collect=torch.as_tensor(collect, dtype=dtype, device=device),
            )
        )
        start += len(outputs)
    return tables


@cache
def product_basis(key: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """`ContractionStructure.basis` as a tensor."""
    with torch.inference_mode(False):  # it is kept, and must serve training as well
        return torch.as_tensor(ContractionStructure.from_key(key).basis(), dtype=dtype, device=device)
