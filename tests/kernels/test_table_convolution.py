"""The edge convolution with a table of radial functions: splines, derivatives, and the C++ kernels."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch import Tensor

from kernels.arguments import requiring, strided
from macekit.errors import UsageError
from macekit.kernels import dispatch, ops, reference, splines, table_ops
from macekit.kernels.structure import ConvolutionStructure
from macekit.kernels.table_edges import TableEdges
from tolerances import Tolerance, assert_close

Maker = Callable[..., tuple[Any, ...]]
FIRST, STEP, ROWS = 0.3, 0.4, 9
LAST = FIRST + STEP * (ROWS - 3)
CASES = {
    "first": ((0,), 3),
    "second": ((0, 1), 3),
    "third": ((0, 1, 2), 2),
    "most": ((0, 1, 2), 4),
    "beyond": ((0, 1, 2, 3), 3),
    "l0": ((0, 1), 0),
}
SIZES = {"many": (7, 60), "one": (2, 1), "none": (3, 0), "empty": (0, 0), "crowded": (2, 170)}
TANGENTS = [(True,) * 4, (True, False, False, False), (False, True, True, False), (False, False, False, True)]
ASKED = [(True, True), (True, False), (False, True)]
without_extension = dispatch.load("cpu").backend is None
needs_extension = pytest.mark.skipif(without_extension, reason="macekit was installed without a compiler")


@pytest.fixture
def arguments(normal: Callable[..., Tensor], whole: Callable[[int, int], Tensor]) -> Maker:
    """Distances before the first knot and beyond the last are among them."""

    def make(case: str, size: str, channels: int) -> tuple[Any, ...]:
        key, (atoms, edges) = ConvolutionStructure.key(*CASES[case]), SIZES[size]
        structure = ConvolutionStructure.from_key(key)
        return (
            normal(atoms, structure.dim_in, channels),
            normal(edges, (structure.max_ell + 1) ** 2),
            normal(edges).abs() * LAST * 0.6,
            normal(ROWS, len(structure.paths), channels),
            whole(atoms, edges),
            whole(atoms, edges),
            FIRST,
            STEP,
            key,
        )

    return make


def test_splines_are_those_of_scipy(normal: Callable[..., Tensor]) -> None:
    """Values, slopes and curvatures of cubic B-splines; zero beyond the last knot, constant before the first."""
    coefficients = normal(ROWS).numpy()
    spline = BSpline(FIRST + STEP * np.arange(-3, ROWS + 1), coefficients, 3)
    r = torch.cat(
        [torch.linspace(FIRST, LAST - 1e-9, 40, dtype=torch.float64), torch.tensor([0.0, LAST, 9.0]).double()]
    )
    row, weights = splines.spline_weights(r, ROWS, FIRST, STEP)
    for derivative, of_order in enumerate(weights):
        found = sum(of_order[:, q] * torch.from_numpy(coefficients)[row + q] for q in range(4))
        expected = torch.from_numpy(spline(r.numpy(), nu=derivative))
        assert_close(found[:40], expected[:40], Tolerance.ORACLE, f"derivative {derivative}")
        before = float(spline(FIRST)) if derivative == 0 else 0.0
        assert found[40:].tolist() == pytest.approx([before, 0.0, 0.0], abs=1e-12)


def test_prefilter_goes_through_the_values_with_fourth_order() -> None:
    """Twice as many knots: a sixteenth of the error, at both ends as well."""
    errors = []
    for count in (33, 65, 129):
        knots = torch.linspace(0.0, 5.0, count, dtype=torch.float64)

        def function(r: Tensor) -> Tensor:
            return (torch.sin(2.0 * r) + r) * (1.0 - r / 5.0) ** 3

        coefficients = splines.prefilter_tensor(count, torch.float64, torch.device("cpu")) @ function(knots)
        step = 5.0 / (count - 1)

        def spline(r: Tensor, coefficients: Tensor = coefficients, step: float = step) -> Tensor:
            row, (value, _, _) = splines.spline_weights(r, len(coefficients), 0.0, step)
            return sum((value[:, q] * coefficients[row + q] for q in range(4)), torch.zeros_like(r))

        assert_close(spline(knots[:-1]), function(knots[:-1]), Tolerance.ORACLE, "values at the knots")
        middle = knots[:-1] + step / 2
        errors.append(float((spline(middle) - function(middle)).abs().max()))
    assert 12.0 < errors[0] / errors[1] < 22.0 and 12.0 < errors[1] / errors[2] < 22.0


def test_prefilter_has_no_denormal_numbers() -> None:
    for count in (64, 1024):
        entries = np.abs(splines.prefilter(count))
        assert entries[entries > 0].min() >= splines.SMALLEST


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpu", marks=needs_extension)])
@pytest.mark.parametrize("size", ["one", "none"])
def test_derivatives(arguments: Maker, backend: str, size: str) -> None:
    """First and second derivatives by features, harmonics, distances and table, inside the range of the knots."""
    h, y, _, table, *rest = arguments("third", size, 2)
    lengths = torch.linspace(FIRST + 0.11, LAST - 0.13, y.shape[0], dtype=torch.float64)
    leaves = requiring((h, y, lengths, table[:, :, :]))

    def operator(*tensors: Tensor) -> Tensor:
        return table_ops.table_convolution(*tensors, *rest)

    with dispatch.use(backend):
        assert torch.autograd.gradcheck(operator, leaves)
        assert torch.autograd.gradgradcheck(operator, leaves)


def test_it_is_the_convolution_with_interpolated_functions(arguments: Maker) -> None:
    h, y, lengths, table, sender, receiver, first, step, key = arguments("second", "many", 3)
    row, (value, _, _) = splines.spline_weights(lengths, ROWS, first, step)
    radial = torch.stack([(value[e, :, None, None] * table[row[e] : row[e] + 4]).sum(0) for e in range(len(row))])
    found = table_ops.table_convolution(h, y, lengths, table, sender, receiver, first, step, key)
    assert_close(found, ops.edge_convolution(h, y, radial, sender, receiver, key), Tolerance.SUM, "convolution")


def test_third_derivatives_raise(arguments: Maker) -> None:
    leaves = requiring(arguments("second", "many", 2))
    value = table_ops.table_convolution(*leaves).square().sum()
    for _ in range(2):
        (gradient,) = torch.autograd.grad(value, leaves[2], create_graph=True)
        value = gradient.square().sum()
    with pytest.raises(UsageError, match="third derivative"):
        torch.autograd.grad(value, leaves[2])


@pytest.mark.parametrize("layout", ["contiguous", "strided"])
@pytest.mark.parametrize("size", ["many", "none"])
def test_opcheck(arguments: Maker, size: str, layout: str) -> None:
    *tensors, sender, receiver, first, step, key = arguments("second", size, 3)
    if layout == "strided":
        tensors = [strided(tensor) for tensor in tensors]
    plain = (*tensors, sender, receiver, first, step, key)
    grad = table_ops.table_convolution(*plain).cos()
    torch.library.opcheck(table_ops.table_convolution, requiring(plain))
    for asked in ASKED:
        torch.library.opcheck(table_ops.table_convolution_backward, (*requiring((grad, *plain)), *asked))
    tangents = [tensor.sin() for tensor in tensors]
    torch.library.opcheck(table_ops.table_convolution_backward2, (*tangents, grad, *plain, True))
    torch.library.opcheck(table_ops.table_convolution_backward2, (None, tangents[1], None, None, grad, *plain, False))


@pytest.fixture(params=[] if without_extension else importlib.import_module("macekit.kernels._core").instruction_sets())
def cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The C++ kernels through every instruction set that this processor has."""
    given = importlib.import_module("macekit.kernels.cpu_arguments")
    monkeypatch.setattr(given, "INSTRUCTION_SET", request.param)
    monkeypatch.setattr(given, "WORK_PER_THREAD", 1)
    return importlib.import_module("macekit.kernels.cpu_table")


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def results(module: Any, given: tuple[Any, ...], tangents: tuple[bool, ...]) -> list[Tensor]:
    """Value, gradients and second gradients, for everything that can be asked for."""
    edges = TableEdges(*given)
    grad = reference.table_convolution(edges).cos()
    *along, of_table = (x.sin() if there else None for x, there in zip(given[:4], tangents, strict=True))
    found = [module.table_convolution(edges)]
    for asked in ASKED:
        found += module.table_convolution_backward(grad, edges, *asked)
    for geometry in (True, False):
        found += module.table_convolution_backward2(along, of_table, grad, edges, geometry)
    found.append(module.table_convolution_tangent(along, edges))
    return found + list(module.table_convolution_weights(grad, grad.sin(), along, edges))


def compare(module: Any, given: tuple[Any, ...], tangents: tuple[bool, ...] = (True,) * 4) -> None:
    single = tuple(
        a.float() if isinstance(a, Tensor) and a.is_floating_point() and n != 2 else a for n, a in enumerate(given)
    )
    for arguments, allowed in ((given, 1e-10), (single, 1e-5)):
        pairs = zip(results(module, arguments, tangents), results(reference, arguments, tangents), strict=True)
        for number, (one, other) in enumerate(pairs):
            assert one.shape == other.shape and one.dtype == other.dtype and one.is_contiguous()
            worst = float((one - other).abs().max()) if one.numel() else 0.0
            assert worst <= allowed * float(other.abs().max() if one.numel() else 1.0), f"result {number}: {worst:.1e}"


def test_tangent_and_gradients_of_both(arguments: Maker) -> None:
    """The definitions of what a training step is made of, against torch's derivatives."""
    h, y, lengths, table, *rest = arguments("third", "many", 3)
    given = h, y, lengths, table = requiring((h, y, lengths, table))
    edges = TableEdges(*given, *rest)
    along = (h.detach().cos(), y.detach().cos(), lengths.detach().cos())
    out = reference.table_convolution(edges)
    any_grad = torch.ones_like(out).requires_grad_()
    gradients = torch.autograd.grad(out, given[:3], any_grad, create_graph=True)
    change = sum(((one * other).sum() for one, other in zip(gradients, along, strict=True)), torch.tensor(0.0))
    (moved,) = torch.autograd.grad(change, any_grad, create_graph=True)
    found = reference.table_convolution_tangent(along, edges)
    assert_close(found, moved, Tolerance.F64, "tangent")
    grads = out.detach().cos(), out.detach().sin()
    expected = torch.autograd.grad((grads[0] * out).sum() + (grads[1] * moved).sum(), (h, table))
    found_both = reference.table_convolution_weights(*grads, along, edges)
    for name, one, other in zip(("h", "table"), found_both, expected, strict=True):
        assert_close(one, other, Tolerance.F64, name)


@needs_extension
def test_rounded_couplings(arguments: Maker, cpu: Any) -> None:
    """Those of models imported from float32 files, of which products that do not couple are left out as well."""
    *given, key = arguments("second", "many", 19)
    compare(cpu, (*given, f"{key}|float32"))


@pytest.mark.parametrize("case", [case for case in CASES if case != "beyond"])
@pytest.mark.parametrize("size", list(SIZES))
def test_kernels(arguments: Maker, cpu: Any, case: str, size: str) -> None:
    compare(cpu, arguments(case, size, 19))


@pytest.mark.parametrize("channels", [1, 8, 16, 40])
@pytest.mark.parametrize("tangents", TANGENTS, ids=str)
def test_channels_and_tangents(arguments: Maker, cpu: Any, channels: int, tangents: tuple[bool, ...]) -> None:
    compare(cpu, arguments("second", "many", channels), tangents)


def test_threads(arguments: Maker, cpu: Any, threads: int) -> None:
    """More threads than blocks of channels as well; and the same bits twice."""
    for channels in (8, 24):
        given = arguments("second", "many", channels)
        compare(cpu, given)
        first, second = (results(cpu, given, (True,) * 4) for _ in range(2))
        assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@needs_extension
def test_wrong_arguments_are_refused(arguments: Maker) -> None:
    from macekit.kernels import cpu_table

    h, y, lengths, table, *rest = arguments("second", "many", 4)
    with pytest.raises(UsageError, match=r"lengths is torch\.float32"):
        cpu_table.table_convolution(TableEdges(h, y, lengths.float(), table, *rest))
    with pytest.raises(UsageError, match=r"table is torch\.float64"):
        cpu_table.table_convolution(TableEdges(h, y, lengths, table[:, :, :2], *rest))


@needs_extension
def test_features_beyond_the_compiled_tables_go_to_the_reference_unless_it_is_named(arguments: Maker) -> None:
    given = arguments("beyond", "many", 8)
    assert torch.equal(table_ops.table_convolution(*given), reference.table_convolution(TableEdges(*given)))
    with dispatch.use("cpu"), pytest.raises(UsageError, match=r"degrees up to 2; '0\.1\.2\.3\|3' has higher ones"):
        table_ops.table_convolution(*given)
