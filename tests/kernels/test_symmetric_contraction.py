"""The symmetric contraction and its derivatives against dense sums written here, finite differences, and opcheck."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.arguments import requiring, strided
from macekit.errors import UsageError
from macekit.kernels import ops, reference_contraction
from macekit.kernels.structure import ContractionStructure, product_basis
from oracles import e3nn_o3
from tolerances import Tolerance, assert_close

KEYS = {
    "third": "2|0.1|3",
    "second": "3|0.1.2|2",
    "first": "1|0.1|1",
    "fourth": "1|0|4",
    "scalars": "0|0.1|2",
    "cancelling": "2|0.1|3|cancelling",
}
ATOMS = {"many": 5, "one": 1, "none": 0}
ELEMENTS = 3


@pytest.fixture
def arguments(normal: Callable[..., Tensor], whole: Callable[[int, int], Tensor]) -> Callable[..., tuple[Any, ...]]:
    def make(key: str, atoms: int, channels: int = 2, elements: int = ELEMENTS) -> tuple[Any, ...]:
        structure = ContractionStructure.from_key(key)
        a, coefficients = normal(atoms, structure.dim_in, channels), normal(elements, structure.num_terms, channels)
        return a, coefficients, whole(elements, atoms), key

    return make


def dense(a: Tensor, coefficients: Tensor, species: Tensor, key: str) -> Tensor:
    """Term by term."""
    structure = ContractionStructure.from_key(key)
    out = torch.zeros(a.shape[0], structure.dim_out, a.shape[2], dtype=a.dtype)
    for i in range(a.shape[0]):
        t = 0
        for polynomials in structure.products:
            for factors, row in zip(polynomials.factors.tolist(), polynomials.outputs.tolist(), strict=True):
                value = coefficients[species[i], t]
                for factor in factors:
                    value = value * a[i, factor]
                out[i, structure.row_out(polynomials.degree) + row] += value
                t += 1
    return out


@pytest.mark.parametrize("size", list(ATOMS))
@pytest.mark.parametrize("name", list(KEYS))
def test_dense_sum(arguments: Callable[..., tuple[Any, ...]], name: str, size: str) -> None:
    given = arguments(KEYS[name], ATOMS[size])
    assert_close(ops.symmetric_contraction(*given), dense(*given), Tolerance.ORACLE, "symmetric contraction")


@pytest.mark.parametrize("max_ell", [1, 2])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_generalised_clebsch_gordan(normal: Callable[..., Tensor], max_ell: int, degree: int) -> None:
    """Every coupling tree of three factors, made of e3nn's 3j symbols, is a combination of our polynomials.

    And conversely: both spaces have the same dimension and together no larger one (arXiv 2206.07697, eq. 10-11).
    """
    o3 = e3nn_o3()
    x = normal(200, (max_ell + 1) ** 2)
    blocks = {l: x[:, l * l : (l + 1) ** 2] for l in range(max_ell + 1)}
    trees = []
    for l1, l2, l3 in product(range(max_ell + 1), repeat=3):
        for middle in range(abs(l1 - l2), l1 + l2 + 1):
            if (l1 + l2 + l3 + degree) % 2 or not abs(middle - l3) <= degree <= middle + l3:
                continue
            first = o3.wigner_3j(l1, l2, middle, dtype=torch.float64)
            second = o3.wigner_3j(middle, l3, degree, dtype=torch.float64)
            pair = torch.einsum("abc,na,nb->nc", first, blocks[l1], blocks[l2])
            trees.append(torch.einsum("abc,na,nb->nc", second, pair, blocks[l3]).flatten())
    key = ContractionStructure.key(max_ell, (degree,), 3)
    structure = ContractionStructure.from_key(key)
    cubic = structure.products[-1]
    basis = product_basis(key, torch.float64, torch.device("cpu"))[-len(cubic.outputs) :, -cubic.num_functions :]
    coefficients = torch.zeros(1, structure.num_terms, cubic.num_functions, dtype=torch.float64)
    coefficients[0, -len(cubic.outputs) :] = basis
    features = x[:, :, None].expand(-1, -1, cubic.num_functions).contiguous()
    ours = ops.symmetric_contraction(features, coefficients, torch.zeros(len(x), dtype=torch.int64), key)
    ours = ours.permute(2, 0, 1).flatten(1)  # [functions, samples and components]
    theirs = torch.stack(trees)
    assert len(theirs) == cubic.num_paths
    solution = torch.linalg.lstsq(ours.T, theirs.T).solution
    assert_close(ours.T @ solution, theirs.T, Tolerance.F64, "coupling trees from polynomials")
    assert torch.linalg.matrix_rank(theirs, rtol=1e-9) == cubic.num_functions
    assert torch.linalg.matrix_rank(ours, rtol=1e-9) == cubic.num_functions


@pytest.mark.parametrize("size", list(ATOMS))
@pytest.mark.parametrize("name", ["third", "first", "fourth"])
def test_derivatives(arguments: Callable[..., tuple[Any, ...]], name: str, size: str) -> None:
    key = "1|0.1|3" if name == "third" else KEYS[name]
    a, coefficients, *rest = arguments(key, min(ATOMS[size], 2), channels=1, elements=2)

    def operator(*tensors: Tensor) -> Tensor:
        return ops.symmetric_contraction(*tensors, *rest)

    assert torch.autograd.gradcheck(operator, requiring((a, coefficients)))
    assert torch.autograd.gradgradcheck(operator, requiring((a, coefficients)))


@pytest.mark.parametrize("alone", [0, 1])
def test_second_derivatives_with_one_tangent(arguments: Callable[..., tuple[Any, ...]], alone: int) -> None:
    a, coefficients, *rest = arguments("1|0.1|3", 2, channels=1, elements=2)
    fixed = [a, coefficients]

    def operator(tensor: Tensor) -> Tensor:
        return ops.symmetric_contraction(*fixed[:alone], tensor, *fixed[alone + 1 :], *rest)

    assert torch.autograd.gradgradcheck(operator, requiring((fixed[alone],)))
    grad = operator(fixed[alone]).cos()
    tangents = [x.sin() if i == alone else None for i, x in enumerate(fixed)]
    zeros = [torch.zeros_like(x) if t is None else t for x, t in zip(fixed, tangents, strict=True)]
    found = ops.symmetric_contraction_backward2(*tangents, grad, *fixed, *rest)
    for one, other in zip(found, ops.symmetric_contraction_backward2(*zeros, grad, *fixed, *rest), strict=True):
        assert_close(one, other, Tolerance.SUM, "a tangent of None")


def test_third_derivatives_raise(arguments: Callable[..., tuple[Any, ...]]) -> None:
    leaves = requiring(arguments(KEYS["third"], 2))
    value = ops.symmetric_contraction(*leaves).square().sum()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(value, leaves[0], create_graph=True)
        value = gradient.square().sum()
    with pytest.raises(UsageError, match="third derivative"):
        torch.autograd.grad(value, leaves[0])


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
@pytest.mark.parametrize("size", list(ATOMS))
def test_opcheck(arguments: Callable[..., tuple[Any, ...]], size: str, layout: str) -> None:
    a, coefficients, species, key = arguments(KEYS["third"], ATOMS[size])
    if layout == "strided":
        a, coefficients = strided(a), strided(coefficients)
    plain = (a, coefficients, species, key)
    grad = ops.symmetric_contraction(*plain).cos()
    grad = strided(grad) if layout == "strided" else grad
    torch.library.opcheck(ops.symmetric_contraction, requiring(plain))
    torch.library.opcheck(ops.symmetric_contraction_backward, requiring((grad, *plain)))
    torch.library.opcheck(ops.symmetric_contraction_backward2, (a.sin(), coefficients.sin(), grad, *plain))
    torch.library.opcheck(ops.symmetric_contraction_backward2, (a.sin(), None, grad, *plain))


def everything(given: tuple[Any, ...]) -> list[Tensor]:
    grad = dense(*given).cos()
    return [
        ops.symmetric_contraction(*given),
        *ops.symmetric_contraction_backward(grad, *given),
        *ops.symmetric_contraction_backward2(given[0].sin(), given[1].sin(), grad, *given),
    ]


def test_strided_arguments_give_the_same(arguments: Callable[..., tuple[Any, ...]]) -> None:
    a, coefficients, species, key = arguments(KEYS["third"], 4)
    for one, other in zip(
        everything((strided(a), strided(coefficients), species, key)),
        everything((a, coefficients, species, key)),
        strict=True,
    ):
        assert one.is_contiguous()
        assert_close(one, other, Tolerance.SUM, "strided arguments")


def test_chunks_give_the_same(arguments: Callable[..., tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    given = arguments(KEYS["third"], 7)
    whole = everything(given)
    monkeypatch.setattr(reference_contraction, "CHUNK_ELEMENTS", 1)
    for one, other in zip(everything(given), whole, strict=True):
        assert_close(one, other, Tolerance.SUM, "atom by atom")


def test_same_bits_twice(arguments: Callable[..., tuple[Any, ...]]) -> None:
    given = arguments(KEYS["third"], 6)
    for one, other in zip(everything(given), everything(given), strict=True):
        assert torch.equal(one, other)


def test_elements_without_atoms(arguments: Callable[..., tuple[Any, ...]]) -> None:
    """Coefficients of absent elements get no gradient, and absent elements are no trouble."""
    a, coefficients, species, key = arguments(KEYS["third"], 4)
    given = (a, coefficients, torch.full_like(species, 1), key)
    _, gradient = ops.symmetric_contraction_backward(dense(*given).cos(), *given)
    assert torch.count_nonzero(gradient[[0, 2]]) == 0
    assert torch.count_nonzero(gradient[1])


def test_production_size_in_float32(arguments: Callable[..., tuple[Any, ...]]) -> None:
    """64 channels, degrees up to 3, third order, scalars and vectors."""
    given = arguments("3|0.1|3", 60, channels=64)
    a, coefficients, species, key = given[0] / 4, given[1], given[2], given[3]
    single = (a.float(), coefficients.float(), species, key)
    assert 60 * ContractionStructure.from_key(key).num_terms * 64 > reference_contraction.CHUNK_ELEMENTS
    expected = ops.symmetric_contraction(a, coefficients, species, key)
    found = ops.symmetric_contraction(*single)
    assert found.dtype == torch.float32
    assert_close(found, expected, Tolerance.F32_BATCH, "float32")
    pairs = zip(
        ops.symmetric_contraction_backward(expected.cos().float(), *single),
        ops.symmetric_contraction_backward(expected.cos(), a, coefficients, species, key),
        strict=True,
    )
    for one, other in pairs:
        assert_close(one, other, Tolerance.F32, "float32 gradients")


def test_tables_made_in_inference_mode_serve_training() -> None:
    product_basis.cache_clear()
    with torch.inference_mode():
        product_basis("2|0.1|3", torch.float64, torch.device("cpu"))
    weights = torch.ones(20, 2, dtype=torch.float64)[: ContractionStructure.from_key("2|0.1|3").num_functions]
    weights = weights.clone().requires_grad_()
    (product_basis("2|0.1|3", torch.float64, torch.device("cpu")) @ weights).square().sum().backward()
    assert weights.grad is not None
