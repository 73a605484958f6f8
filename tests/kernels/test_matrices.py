"""Products of features with matrices: dense matrices as the judge of all backends, and derivatives."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from kernels.arguments import strided
from macekit.kernels import dispatch, reference, sweeps
from macekit.kernels.reference_matrices import MatrixBlock
from macekit.model.matrices import Layout, Span, _plan, per_degree

Normal = Callable[..., Tensor]
ATOMS = {"none": (0, 0, 0), "one": (0, 1, 0), "some": (5, 0, 8), "many": (40, 3, 90)}
"""Numbers of atoms of three classes."""


def layout_of(channels: int, counts: tuple[int, ...] | None) -> Layout:
    """A scalar in two parts, a vector; the last row of the input and of the output belong to neither."""
    spans = (
        Span(0, 2 * channels, 0, channels, 1, 0.3),
        Span(2 * channels, channels, channels, channels, 3, 0.7),
    )
    return Layout(spans, (6, channels), (5, channels), counts)


def shapes_of(layout: Layout) -> list[tuple[int, ...]]:
    classes = () if layout.counts is None else (len(layout.counts),)
    return [(*classes, span.fan_in, span.fan_out) for span in layout.spans]


def dense(layout: Layout, matrices: list[Tensor], number: int) -> Tensor:
    """The map of one class as a matrix between whole rows."""
    width_in, width_out = (shape[0] * shape[1] for shape in (layout.shape_in, layout.shape_out))
    whole = torch.zeros(width_in, width_out, dtype=matrices[0].dtype)
    for span, matrix in zip(layout.spans, matrices, strict=True):
        each = matrix if layout.counts is None else matrix[number]
        for m in range(span.components):
            first_in, first_out = span.first_in + m * span.fan_in, span.first_out + m * span.fan_out
            whole[first_in : first_in + span.fan_in, first_out : first_out + span.fan_out] = span.scale * each
    return whole


@pytest.fixture(params=["reference", *(["cpu"] if dispatch.load("cpu").backend else [])])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    with dispatch.use(request.param):
        yield request.param


@pytest.mark.parametrize("channels", [3, 16, 48])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("size", ATOMS)
def test_products_are_those_of_dense_matrices(
    backend: str, normal: Normal, size: str, by_class: bool, channels: int
) -> None:
    counts = ATOMS[size]
    layout = layout_of(channels, counts if by_class else None)
    matrices = [normal(*shape) for shape in shapes_of(layout)]
    x, y = normal(sum(counts), *layout.shape_in), normal(sum(counts), *layout.shape_out)
    classes = [number for number, count in enumerate(counts) for _ in range(count)]
    maps = torch.stack([dense(layout, matrices, number) for number in range(len(counts))])[classes]
    product, back = layout.product(x, matrices), layout.transposed(y, matrices)
    torch.testing.assert_close(product.flatten(1), torch.einsum("ni,nio->no", x.flatten(1), maps))
    torch.testing.assert_close(back.flatten(1), torch.einsum("no,nio->ni", y.flatten(1), maps))


@pytest.mark.parametrize("channels", [3, 16, 48, 160])
@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("size", ATOMS)
def test_gradients_of_the_matrices(backend: str, normal: Normal, size: str, by_class: bool, channels: int) -> None:
    counts = ATOMS[size]
    layout = layout_of(channels, counts if by_class else None)
    matrices = [normal(*shape).requires_grad_() for shape in shapes_of(layout)]
    pairs = [(normal(sum(counts), *layout.shape_in), normal(sum(counts), *layout.shape_out)) for _ in range(2)]
    classes = [number for number, count in enumerate(counts) for _ in range(count)]
    total = torch.zeros((), dtype=torch.float64)
    for x, y in pairs:
        maps = torch.stack([dense(layout, matrices, number) for number in range(len(counts))])[classes]
        total = total + torch.einsum("ni,nio,no->", x.flatten(1), maps, y.flatten(1))
    expected = torch.autograd.grad(total, matrices)
    for one, other in zip(layout.outer(pairs), expected, strict=True):
        torch.testing.assert_close(one, other)


def test_every_instruction_set_gives_the_numbers_of_the_reference(
    normal: Normal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("macekit.kernels.cpu", reason="macekit was installed without a compiler", exc_type=ImportError)
    from macekit.kernels import cpu, cpu_arguments

    monkeypatch.setattr(cpu_arguments, "WORK_PER_THREAD", 1)
    for instruction_set in cpu._core.instruction_sets():
        monkeypatch.setattr(cpu_arguments, "INSTRUCTION_SET", instruction_set)
        for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
            for channels in (16, 32, 160):
                layout = layout_of(channels, (7, 0, 30))
                matrices = [normal(*shape).to(dtype) for shape in shapes_of(layout)]
                x, y = normal(37, *layout.shape_in).to(dtype), normal(37, *layout.shape_out).to(dtype)
                plan = _plan(layout, 37)
                calls = (
                    ("matrix_products", (strided(x), [strided(m) for m in matrices], plan, False)),
                    ("matrix_products", (strided(y), matrices, plan, True)),
                    ("matrix_gradients", ([(x, strided(y)), (x + 1, y)], plan)),
                )
                for name, arguments in calls:
                    found, expected = (getattr(module, name)(*arguments) for module in (cpu, reference))
                    both = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
                    for one, other in both:
                        worst = float((one - other).abs().max() / other.abs().max())
                        assert worst <= tolerance, (instruction_set, dtype, channels, name)


def test_the_number_of_threads_does_not_change_a_bit(normal: Normal, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("macekit.kernels.cpu", reason="macekit was installed without a compiler", exc_type=ImportError)
    from macekit.kernels import cpu, cpu_arguments

    monkeypatch.setattr(cpu_arguments, "WORK_PER_THREAD", 1)
    layout = layout_of(48, (7, 0, 30))
    matrices = [normal(*shape) for shape in shapes_of(layout)]
    x, y = normal(37, *layout.shape_in), normal(37, *layout.shape_out)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            product = cpu.matrix_products(x, matrices, _plan(layout, 37), False)
            found.append((product, *cpu.matrix_gradients([(x, y)], _plan(layout, 37))))
    finally:
        torch.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("by_class", [False, True])
def test_derivatives(backend: str, normal: Normal, by_class: bool) -> None:
    layout = layout_of(8, (2, 0, 1) if by_class else None)
    matrices = [normal(*shape).requires_grad_() for shape in shapes_of(layout)]
    x = normal(3, *layout.shape_in).requires_grad_()

    def function(features: Tensor, *weights: Tensor) -> Tensor:
        return per_degree(features, weights, layout)

    assert torch.autograd.gradcheck(function, (x, *matrices), fast_mode=True)
    assert torch.autograd.gradgradcheck(function, (x, *matrices), fast_mode=True)


def test_gradients_that_nobody_asks_for_are_not_made(normal: Normal) -> None:
    layout = layout_of(16, None)
    matrices = [normal(*shape).requires_grad_() for shape in shapes_of(layout)]
    x = normal(3, *layout.shape_in).requires_grad_()
    with sweeps.sweep(geometry=True, weights=False):
        grads = torch.autograd.grad(per_degree(x, matrices, layout).sum(), [x, *matrices], allow_unused=True)
    assert grads[0] is not None
    assert grads[1:] == (None, None)


def test_a_block_is_where_it_says() -> None:
    x = torch.arange(24.0).view(2, 12)
    block = MatrixBlock(0, 0, 1, 2, 3, 2, 0, 1, 2, 1.0)
    assert block.of_input(x).tolist() == [[[15.0, 16.0]], [[17.0, 18.0]]]
