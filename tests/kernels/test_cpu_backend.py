"""The C++ kernels against the reference, through every instruction set that this processor has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from kernels.arguments import requiring, strided
from macekit.errors import UsageError
from macekit.kernels import dispatch, ops, reference, self_check
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure

cpu = pytest.importorskip(
    "macekit.kernels.cpu", reason="macekit was installed without a compiler", exc_type=ImportError
)

CONVOLUTIONS = {
    "first": ((0,), 3),
    "second": ((0, 1), 3),
    "third": ((0, 1, 2), 2),
    "alone": ((1,), 2),
    "scalars": ((0, 1), 0),
    "all": ((0, 1, 2, 3, 4), 4),
}
EDGES = {"many": (7, 60), "one": (2, 1), "none": (3, 0), "empty": (0, 0), "crowded": (2, 70)}
CONTRACTIONS = ["3|0.1|3", "2|0.1.2|2", "1|0.1|1", "1|0.1|4", "2|0|4", "0|0|3", "2|0.1.2|3|cancelling"]
ATOMS = {"many": 23, "one": 1, "none": 0, "tasks": 300}
TANGENTS = [(True, True, True), (True, False, False), (False, True, False), (False, False, True), (True, False, True)]
CHANNELS = [1, 8, 16, 19, 40]

cpu_arguments = pytest.importorskip("macekit.kernels.cpu_arguments", exc_type=ImportError)
Maker = Callable[..., tuple[Any, ...]]


@pytest.fixture(params=cpu._core.instruction_sets())
def instruction_set(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(cpu_arguments, "INSTRUCTION_SET", request.param)
    monkeypatch.setattr(cpu_arguments, "WORK_PER_THREAD", 1)
    return str(request.param)


@pytest.fixture(params=[2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def edges_of(normal: Callable[..., Tensor], whole: Callable[[int, int], Tensor]) -> Maker:
    def make(case: str, size: str, channels: int) -> tuple[Any, ...]:
        key, (atoms, edges) = ConvolutionStructure.key(*CONVOLUTIONS[case]), EDGES[size]
        structure = ConvolutionStructure.from_key(key)
        return (
            normal(atoms, structure.dim_in, channels),
            normal(edges, (structure.max_ell + 1) ** 2),
            normal(edges, len(structure.paths), channels),
            whole(atoms, edges),
            whole(atoms, edges),
            key,
        )

    return make


@pytest.fixture
def atoms_of(normal: Callable[..., Tensor], whole: Callable[[int, int], Tensor]) -> Maker:
    def make(key: str, size: str, channels: int, species: int = 3) -> tuple[Any, ...]:
        structure, atoms = ContractionStructure.from_key(key), ATOMS[size]
        return (
            normal(atoms, structure.dim_in, channels),
            normal(species, structure.num_terms, channels),
            whole(species, atoms),
            key,
        )

    return make


def single(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in arguments)


def results(
    module: Any, operation: str, given: tuple[Any, ...], reals: int, tangents: tuple[bool, ...]
) -> list[Tensor]:
    """Value, gradients and second gradients of an operation with these tangents."""
    value = getattr(module, operation)(*given)
    grad = getattr(reference, operation)(*given).cos()
    along = [x.sin() if there else None for x, there in zip(given[:reals], tangents, strict=False)]
    return [
        value,
        *getattr(module, f"{operation}_backward")(grad, *given),
        *getattr(module, f"{operation}_backward2")(*along, grad, *given),
    ]


def compare(
    operation: str, given: tuple[Any, ...], reals: int, tangents: tuple[bool, ...] = (True, True, True)
) -> None:
    """Both precisions, relative to the largest number of each result."""
    for arguments, allowed in ((given, 1e-10), (single(given), 1e-5)):
        found, expected = (results(module, operation, arguments, reals, tangents) for module in (cpu, reference))
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert one.shape == other.shape and one.dtype == other.dtype and one.is_contiguous()
            worst = float((one - other).abs().max()) if one.numel() else 0.0
            assert worst <= allowed * float(other.abs().max() if one.numel() else 1.0), f"result {number}: {worst:.1e}"


@pytest.mark.parametrize("case", list(CONVOLUTIONS))
@pytest.mark.parametrize("size", list(EDGES))
def test_edge_convolution(edges_of: Maker, instruction_set: str, case: str, size: str) -> None:
    compare("edge_convolution", edges_of(case, size, 19), 3)


@pytest.mark.parametrize("key", CONTRACTIONS)
@pytest.mark.parametrize("size", list(ATOMS))
def test_symmetric_contraction(atoms_of: Maker, instruction_set: str, key: str, size: str) -> None:
    compare("symmetric_contraction", atoms_of(key, size, 19), 2)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("tangents", TANGENTS, ids=str)
def test_channels_and_tangents(
    edges_of: Maker, atoms_of: Maker, instruction_set: str, channels: int, tangents: tuple[bool, ...]
) -> None:
    compare("edge_convolution", edges_of("second", "many", channels), 3, tangents)
    if any(tangents[:2]):
        compare("symmetric_contraction", atoms_of("2|0.1.2|2", "many", channels), 2, tangents)


@pytest.mark.parametrize("channels", [8, 24])
def test_threads(edges_of: Maker, atoms_of: Maker, instruction_set: str, threads: int, channels: int) -> None:
    """More threads than blocks of channels as well; and the same bits twice."""
    for operation, given, reals in (
        ("edge_convolution", edges_of("second", "many", channels), 3),
        ("symmetric_contraction", atoms_of("2|0.1|2", "tasks", channels), 2),
    ):
        compare(operation, given, reals)
        first, second = (results(cpu, operation, given, reals, (True, True, True)) for _ in range(2))
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_contraction_does_not_depend_on_threads(atoms_of: Maker) -> None:
    given = atoms_of("2|0.1.2|2", "tasks", 40)
    before = torch.get_num_threads()
    found = []
    for count in (1, 3):
        torch.set_num_threads(count)
        found.append(results(cpu, "symmetric_contraction", given, 2, (True, True)))
    torch.set_num_threads(before)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def test_sorted_and_unsorted_edges_give_the_same(edges_of: Maker) -> None:
    h, y, radial, sender, receiver, key = edges_of("second", "many", 16)
    order = torch.argsort(receiver, stable=True)
    moved = (h, y[order], radial[order], sender[order], receiver[order], key)
    assert torch.equal(cpu.edge_convolution(h, y, radial, sender, receiver, key), cpu.edge_convolution(*moved))


def test_strided_arguments(edges_of: Maker, atoms_of: Maker) -> None:
    for operation, given in (
        ("edge_convolution", edges_of("second", "many", 16)),
        ("symmetric_contraction", atoms_of("2|0.1.2|2", "many", 16)),
    ):
        apart = tuple(strided(a) if isinstance(a, Tensor) and a.is_floating_point() else a for a in given)
        assert torch.equal(getattr(cpu, operation)(*apart), getattr(cpu, operation)(*given))


def test_differentiable_twice(edges_of: Maker, atoms_of: Maker) -> None:
    """Finite differences through the operators, with this backend."""
    h, y, radial, *rest = edges_of("third", "one", 2)
    a, coefficients, *others = atoms_of("1|0.1|4", "one", 2, 2)
    with dispatch.use("cpu"):
        for function, leaves in (
            (lambda *x: ops.edge_convolution(*x, *rest), requiring((h, y, radial))),
            (lambda *x: ops.symmetric_contraction(*x, *others), requiring((a, coefficients))),
        ):
            assert torch.autograd.gradcheck(function, leaves)
            assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("size", ["many", "none"])
def test_opcheck(edges_of: Maker, atoms_of: Maker, size: str) -> None:
    with dispatch.use("cpu"):
        for operation, given, reals in (
            ("edge_convolution", edges_of("second", size, 3), 3),
            ("symmetric_contraction", atoms_of("2|0.1.2|2", size, 3), 2),
        ):
            grad = getattr(reference, operation)(*given).cos()
            along = [x.sin() for x in given[:reals]]
            torch.library.opcheck(getattr(ops, operation), requiring(given))
            torch.library.opcheck(getattr(ops, f"{operation}_backward"), requiring((grad, *given)))
            torch.library.opcheck(getattr(ops, f"{operation}_backward2"), (*along, grad, *given))


def test_production_size(edges_of: Maker, atoms_of: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EDGES, "box", (30, 900))
    compare("edge_convolution", edges_of("second", "box", 128), 3)
    compare("symmetric_contraction", atoms_of("3|0.1|3", "many", 128), 2)


@pytest.mark.parametrize("wrong", [-1, 7])
def test_indices_are_checked(edges_of: Maker, atoms_of: Maker, wrong: int) -> None:
    """Memory that is not ours is never touched."""
    h, y, radial, sender, receiver, key = edges_of("second", "many", 4)
    bad = sender.clone()
    bad[3] = wrong
    with pytest.raises(IndexError, match=rf"sender {wrong} is not in 0 \.\.\. 6"):
        cpu.edge_convolution(h, y, radial, bad, receiver, key)
    with pytest.raises(IndexError, match=rf"receiver {wrong} at position 3 is not in 0 \.\.\. 6"):
        cpu.edge_convolution(h, y, radial, sender, bad, key)
    a, coefficients, species, key = atoms_of("1|0.1|1", "many", 4)
    species[5] = wrong
    with pytest.raises(IndexError, match=rf"species {wrong} at position 5 is not in 0 \.\.\. 2"):
        cpu.symmetric_contraction(a, coefficients, species, key)


def test_shapes_and_precisions_are_checked(edges_of: Maker) -> None:
    h, y, radial, sender, receiver, key = edges_of("second", "many", 4)
    with pytest.raises(UsageError, match=r"y is torch\.float32 \[60, 16\] on cpu; expected torch\.float64 \[60, 16\]"):
        cpu.edge_convolution(h, y.float(), radial, sender, receiver, key)
    with pytest.raises(UsageError, match=r"radial is torch\.float64 \[60, 9, 4\] on cpu; expected .* \[60, 10, 4\]"):
        cpu.edge_convolution(h, y, radial[:, 1:], sender, receiver, key)


def test_every_instruction_set_passes_the_self_check(instruction_set: str, threads: int) -> None:
    assert self_check.largest_difference(cpu) is None, instruction_set


def test_structures_beyond_the_tables_are_refused(edges_of: Maker, atoms_of: Maker) -> None:
    with pytest.raises(UsageError, match="degrees up to 4"):
        cpu_arguments.convolution_table("0|5")
    with pytest.raises(UsageError, match="correlations up to 4"):
        cpu_arguments.contraction_table("0|0|5")


@pytest.mark.parametrize(("convolution", "contraction"), [("0.1|5", "3|0|2"), ("0|2", "0|0|5")])
def test_what_the_kernels_lack_goes_to_the_reference_unless_they_are_named(
    normal: Callable[..., Tensor], convolution: str, contraction: str
) -> None:
    structure, polynomials = ConvolutionStructure.from_key(convolution), ContractionStructure.from_key(contraction)
    h, y = normal(2, structure.dim_in, 4), normal(3, (structure.max_ell + 1) ** 2)
    ends = torch.tensor([0, 1, 1]), torch.tensor([1, 0, 1])
    edges = (h, y, normal(3, len(structure.paths), 4), *ends, convolution)
    atoms = (normal(2, polynomials.dim_in, 4), normal(1, polynomials.num_terms, 4), torch.tensor([0, 0]), contraction)
    assert torch.allclose(ops.edge_convolution(*edges), reference.edge_convolution(*edges))
    assert torch.allclose(ops.symmetric_contraction(*atoms), reference.symmetric_contraction(*atoms))
    with dispatch.use("cpu"), pytest.raises(UsageError, match="use the reference backend"):
        ops.edge_convolution(*edges)
        ops.symmetric_contraction(*atoms)


def test_kernels_of_another_processor_are_said_to_be_that(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_arguments._core, "instruction_sets", list)
    with pytest.raises(ImportError, match="instruction sets that this processor does not have; install macekit again"):
        cpu_arguments._best_instruction_set()
