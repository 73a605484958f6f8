"""The edge convolution and its derivatives against a dense sum written here, finite differences, and opcheck."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.arguments import requiring, strided
from macekit.errors import UsageError
from macekit.kernels import ops, reference_contraction
from macekit.kernels.structure import ConvolutionStructure, convolution_tables
from oracles import e3nn_o3
from tolerances import Tolerance, assert_close

CASES = {"first": ((0,), 3), "second": ((0, 1), 2), "two": ((0, 1, 2), 2), "scalars": ((0, 1), 0)}
SIZES = {"many": (5, 9), "one": (2, 1), "none": (3, 0), "empty": (0, 0)}
CHANNELS = 3


@pytest.fixture
def arguments(normal: Callable[..., Tensor], whole: Callable[[int, int], Tensor]) -> Callable[..., tuple[Any, ...]]:
    def make(
        degrees: tuple[int, ...], max_ell: int, atoms: int, edges: int, channels: int = CHANNELS
    ) -> tuple[Any, ...]:
        key = ConvolutionStructure.key(degrees, max_ell)
        structure = ConvolutionStructure.from_key(key)
        return (
            normal(atoms, sum(2 * l + 1 for l in degrees), channels),
            normal(edges, (max_ell + 1) ** 2),
            normal(edges, len(structure.paths), channels),
            whole(atoms, edges),
            whole(atoms, edges),
            key,
        )

    return make


def dense(h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str) -> Tensor:
    """Edge by edge and path by path, with e3nn's 3j symbols."""
    o3 = e3nn_o3()
    degrees = [int(l) for l in key.split("|", maxsplit=1)[0].split(".")]
    max_ell = int(key.split("|")[1])
    couplings = [
        (l1, l2, l3)
        for l3 in range(max_ell + 1)
        for l1 in degrees
        for l2 in range(max_ell + 1)
        if abs(l1 - l2) <= l3 <= l1 + l2 and (l1 + l2 + l3) % 2 == 0
    ]
    blocks = []
    for l3 in range(max_ell + 1):
        rows = []
        for p, (l1, l2, l) in enumerate(couplings):
            if l != l3:
                continue
            start = sum(2 * other + 1 for other in degrees if other < l1)
            coupling = (2 * l3 + 1) ** 0.5 * o3.wigner_3j(l1, l2, l3, dtype=torch.float64)
            row = torch.zeros(h.shape[0], 2 * l3 + 1, h.shape[2], dtype=torch.float64)
            for e in range(len(sender)):
                features, harmonics = h[sender[e], start : start + 2 * l1 + 1], y[e, l2**2 : (l2 + 1) ** 2]
                row[receiver[e]] += torch.einsum("abc,ak,b->ck", coupling, features, harmonics) * radial[e, p]
            rows.append(row)
        if rows:
            blocks.append(torch.stack(rows, dim=2).flatten(1, 2))  # component outside, path inside
    return torch.cat(blocks, dim=1)


@pytest.mark.parametrize("case", list(CASES))
@pytest.mark.parametrize("size", list(SIZES))
def test_dense_sum(arguments: Callable[..., tuple[Any, ...]], case: str, size: str) -> None:
    given = arguments(*CASES[case], *SIZES[size])
    assert_close(ops.edge_convolution(*given), dense(*given), Tolerance.ORACLE, "edge convolution")


@pytest.mark.parametrize("size", [(2, 3), (2, 1), (2, 0)], ids=["many", "one", "none"])
@pytest.mark.parametrize("case", [((0,), 2), ((0, 1), 1)], ids=["first", "second"])
def test_derivatives(
    arguments: Callable[..., tuple[Any, ...]], case: tuple[tuple[int, ...], int], size: tuple[int, int]
) -> None:
    """First derivatives, and second derivatives with all arguments and the incoming gradient varying."""
    h, y, radial, *rest = arguments(*case, *size, channels=2)
    leaves = requiring((h, y, radial))

    def operator(*tensors: Tensor) -> Tensor:
        return ops.edge_convolution(*tensors, *rest)

    assert torch.autograd.gradcheck(operator, leaves)
    assert torch.autograd.gradgradcheck(operator, leaves)


@pytest.mark.parametrize("alone", [0, 1, 2])
def test_second_derivatives_with_one_tangent(arguments: Callable[..., tuple[Any, ...]], alone: int) -> None:
    """Tangents that are not there are zeros."""
    h, y, radial, *rest = arguments((0, 1), 1, 3, 4, channels=2)
    fixed = [h, y, radial]

    def operator(tensor: Tensor) -> Tensor:
        return ops.edge_convolution(*fixed[:alone], tensor, *fixed[alone + 1 :], *rest)

    assert torch.autograd.gradgradcheck(operator, requiring((fixed[alone],)))
    grad = operator(fixed[alone]).cos()
    tangents = [fixed[i].sin() if i == alone else None for i in range(3)]
    zeros = [torch.zeros_like(x) if t is None else t for x, t in zip(fixed, tangents, strict=True)]
    found = ops.edge_convolution_backward2(*tangents, grad, *fixed, *rest)
    for one, other in zip(found, ops.edge_convolution_backward2(*zeros, grad, *fixed, *rest), strict=True):
        assert_close(one, other, Tolerance.SUM, "a tangent of None")


def test_third_derivatives_raise(arguments: Callable[..., tuple[Any, ...]]) -> None:
    """They are refused, not wrong: the second backward has no derivative."""
    leaves = requiring(arguments(*CASES["second"], 3, 4))
    value = ops.edge_convolution(*leaves).square().sum()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(value, leaves[1], create_graph=True)
        value = gradient.square().sum()
    with pytest.raises(UsageError, match="third derivative"):
        torch.autograd.grad(value, leaves[1])


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
@pytest.mark.parametrize("size", list(SIZES))
def test_opcheck(arguments: Callable[..., tuple[Any, ...]], size: str, layout: str) -> None:
    """Schema, autograd registration, fake tensors and ahead-of-time dispatch of the three operators."""
    *tensors, key = arguments(*CASES["second"], *SIZES[size])
    if layout == "strided":
        tensors[:3] = [strided(t) for t in tensors[:3]]
    plain = (*tensors, key)
    grad = ops.edge_convolution(*plain).cos()
    grad = strided(grad) if layout == "strided" else grad
    torch.library.opcheck(ops.edge_convolution, requiring(plain))
    torch.library.opcheck(ops.edge_convolution_backward, requiring((grad, *plain)))
    torch.library.opcheck(ops.edge_convolution_backward2, (*(t.sin() for t in tensors[:3]), grad, *plain))
    torch.library.opcheck(ops.edge_convolution_backward2, (None, tensors[1].sin(), None, grad, *plain))


def test_strided_arguments_give_the_same(arguments: Callable[..., tuple[Any, ...]]) -> None:
    *tensors, key = arguments(*CASES["second"], *SIZES["many"])
    apart = [strided(t) if t.is_floating_point() else t for t in tensors]
    grad = ops.edge_convolution(*tensors, key).cos()
    tangents = [t.sin() for t in tensors[:3]]
    assert not any(t.is_contiguous() for t in apart[:3])
    pairs = [
        ([ops.edge_convolution(*apart, key)], [ops.edge_convolution(*tensors, key)]),
        (
            ops.edge_convolution_backward(strided(grad), *apart, key),
            ops.edge_convolution_backward(grad, *tensors, key),
        ),
        (
            ops.edge_convolution_backward2(*map(strided, tangents), strided(grad), *apart, key),
            ops.edge_convolution_backward2(*tangents, grad, *tensors, key),
        ),
    ]
    for found, expected in pairs:
        for one, other in zip(found, expected, strict=True):
            assert one.is_contiguous()
            assert_close(one, other, Tolerance.SUM, "strided arguments")


@pytest.mark.parametrize("elements", [1, 200])
def test_chunks_give_the_same(
    arguments: Callable[..., tuple[Any, ...]], elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = arguments(*CASES["second"], 6, 31)
    grad, tangents = ops.edge_convolution(*given).cos(), [t.sin() for t in given[:3]]

    def everything() -> list[Tensor]:
        return [
            ops.edge_convolution(*given),
            *ops.edge_convolution_backward(grad, *given),
            *ops.edge_convolution_backward2(*tangents, grad, *given),
        ]

    whole = everything()
    monkeypatch.setattr(reference_contraction, "CHUNK_ELEMENTS", elements)
    for one, other in zip(everything(), whole, strict=True):
        assert_close(one, other, Tolerance.SUM, "in chunks")


def test_same_bits_twice(arguments: Callable[..., tuple[Any, ...]]) -> None:
    given = arguments(*CASES["second"], 6, 40)
    grad = ops.edge_convolution(*given).cos()
    assert torch.equal(ops.edge_convolution(*given), ops.edge_convolution(*given))
    for one, other in zip(*(ops.edge_convolution_backward(grad, *given) for _ in range(2)), strict=True):
        assert torch.equal(one, other)


def test_atoms_without_edges_have_nothing(arguments: Callable[..., tuple[Any, ...]]) -> None:
    h, y, radial, sender, receiver, key = arguments(*CASES["second"], 4, 6)
    out = ops.edge_convolution(h, y, radial, sender, torch.full_like(receiver, 2), key)
    assert torch.count_nonzero(out[[0, 1, 3]]) == 0
    assert torch.count_nonzero(out[2])


def test_production_size_in_float32(arguments: Callable[..., tuple[Any, ...]]) -> None:
    """64 channels, degrees up to 3, in one call and several chunks, against float64."""
    given = arguments((0, 1), 3, 20, 450, channels=64)
    single = tuple(a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in given)
    assert 450 * ConvolutionStructure.from_key(given[-1]).dim_out * 64 > reference_contraction.CHUNK_ELEMENTS
    found, expected = ops.edge_convolution(*single), ops.edge_convolution(*given)
    assert found.dtype == torch.float32
    assert_close(found, expected, Tolerance.F32_BATCH, "float32")
    grad = expected.cos()
    for one, other in zip(
        ops.edge_convolution_backward(grad.float(), *single), ops.edge_convolution_backward(grad, *given), strict=True
    ):
        assert_close(one, other, Tolerance.F32, "float32 gradients")


def test_structure() -> None:
    structure = ConvolutionStructure.from_key("0.1|3")
    assert [(p.l_in, p.l_sh, p.l_out) for p in structure.paths] == [
        *((0, 0, 0), (1, 1, 0)),
        *((0, 1, 1), (1, 0, 1), (1, 2, 1)),
        *((0, 2, 2), (1, 1, 2), (1, 3, 2)),
        *((0, 3, 3), (1, 2, 3)),
    ]
    assert structure.dim_out == 2 + 3 * 3 + 5 * 3 + 7 * 2
    assert structure.rows_out(1) == slice(2, 11)


def test_tables_made_in_inference_mode_serve_training(arguments: Callable[..., tuple[Any, ...]]) -> None:
    convolution_tables.cache_clear()
    given = arguments(*CASES["second"], 4, 7)
    with torch.inference_mode():
        ops.edge_convolution(*given)
    assert torch.autograd.gradcheck(lambda h: ops.edge_convolution(h, *given[1:]), requiring(given[:1]))
