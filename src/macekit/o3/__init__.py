"""Rotation algebra: irreps, Wigner 3j symbols, spherical harmonics, symmetric products. No e3nn at run time."""

from macekit.o3.cancelling import with_cancelling_terms
from macekit.o3.irreps import Irrep, Irreps, parse_hidden_irreps, parse_scalar_irreps
from macekit.o3.symmetric_product import SymmetricProduct, symmetric_product, tree_matrix
from macekit.o3.wigner import clebsch_gordan, wigner_3j

__all__ = [
    "Irrep",
    "Irreps",
    "SymmetricProduct",
    "clebsch_gordan",
    "parse_hidden_irreps",
    "parse_scalar_irreps",
    "symmetric_product",
    "tree_matrix",
    "wigner_3j",
    "with_cancelling_terms",
]
