"""Time the kernel backends against each other: every operation, and a training step on ten ethanol-like molecules.

    python benchmarks/kernels.py [--threads 1 2] [--channels 32 128] [--repetitions 9]

Backends take turns within each repetition, so that other work on the machine hits both. Medians of wall time, and in
brackets the best, which is what a quiet machine would show.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from ase.build import molecule
from torch import Tensor

from macekit.data import Structure
from macekit.geometry.graph import Graph, collate
from macekit.geometry.neighbours import graph_from_structure
from macekit.kernels import dispatch, ops
from macekit.kernels.structure import ContractionStructure, ConvolutionStructure
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate

BACKENDS = ("reference", "cpu")
ELEMENTS, CUTOFF, MOLECULES = [1, 6, 8], 5.0, 10
CONVOLUTIONS = {"layer 1": (0,), "layer 2": (0, 1)}
CONTRACTIONS = {"0e": (0,), "0e + 1o": (0, 1)}
Work = Callable[[], object]


def ethanol_like() -> Graph:
    """Ten rattled molecules as one graph."""
    graphs = []
    for number in range(MOLECULES):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=number)
        graphs.append(graph_from_structure(Structure.from_ase(atoms), ELEMENTS, CUTOFF))
    return collate(graphs)


def model_of(channels: int, dtype: torch.dtype) -> Mace:
    """Two layers of order 3, degrees up to 3."""
    config = {"hidden_irreps": f"{channels}x0e + {channels}x1o", "max_ell": 3, "correlation": 3, "compute_forces": True}
    facts = {
        "elements": ELEMENTS,
        "cutoff": CUTOFF,
        "avg_num_neighbours": 8.0,
        "targets": {"y_graph_scalars": ["energy"], "y_node_vector": "forces"},
        "reference_energies": {"energy": [0.0, 0.0, 0.0]},
    }
    return build_model("mace_model", config, facts, dtype=dtype)


def training_step(model: Mace, graph: Graph, optimizer: torch.optim.Optimizer) -> Work:
    """Energy and forces, a loss on both, and an optimizer step."""
    labels = {name: torch.randn_like(value) for name, value in evaluate(model, graph).items()}

    def step() -> None:
        optimizer.zero_grad()
        outputs = evaluate(model, graph, training=True)
        loss = sum((outputs[name] - labels[name]).square().mean() for name in ("y_graph_scalars", "y_node_vector"))
        assert isinstance(loss, Tensor)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def operations(graph: Graph, channels: int, dtype: torch.dtype) -> dict[str, Work]:
    """Every operation with random numbers on the molecules' edges."""
    sender, receiver = graph.edge_index
    atoms, edges = graph.species.shape[0], sender.shape[0]
    works: dict[str, Work] = {}

    def add(
        name: str, operation: str, reals: list[Tensor], rest: tuple[object, ...], tangents: list[Tensor | None]
    ) -> None:
        grad = torch.randn_like(getattr(ops, operation)(*reals, *rest))
        works[f"{name}: forward"] = lambda: getattr(ops, operation)(*reals, *rest)
        works[f"{name}: backward"] = lambda: getattr(ops, f"{operation}_backward")(grad, *reals, *rest)
        works[f"{name}: backward 2"] = lambda: getattr(ops, f"{operation}_backward2")(*tangents, grad, *reals, *rest)

    for name, degrees in CONVOLUTIONS.items():
        key = ConvolutionStructure.key(degrees, 3)
        paths = len(ConvolutionStructure.from_key(key).paths)
        shapes = [(atoms, sum(2 * l + 1 for l in degrees), channels), (edges, 16), (edges, paths, channels)]
        reals = [torch.randn(shape, dtype=dtype) for shape in shapes]
        add(f"convolution {name}", "edge_convolution", reals, (sender, receiver, key), [x.cos() for x in reals])
    for name, degrees in CONTRACTIONS.items():
        key = ContractionStructure.key(3, degrees, 3)
        terms = ContractionStructure.from_key(key).num_terms
        reals = [torch.randn(shape, dtype=dtype) for shape in [(atoms, 16, channels), (len(ELEMENTS), terms, channels)]]
        add(f"contraction {name}", "symmetric_contraction", reals, (graph.species, key), [reals[0].cos(), None])
    return works


def measure(work: Work, repetitions: int) -> dict[str, list[float]]:
    """Seconds by backend, in turns."""
    seconds: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    for repetition in range(repetitions + 1):
        for backend in BACKENDS:
            with dispatch.use(backend):
                start = time.perf_counter()
                work()
                elapsed = time.perf_counter() - start
            if repetition:  # the first is for warming up
                seconds[backend].append(elapsed)
    return seconds


def report(name: str, seconds: dict[str, list[float]]) -> None:
    """A line of the table: medians, and in brackets the best, in ms."""
    medians = [statistics.median(seconds[backend]) for backend in BACKENDS]
    best = [min(seconds[backend]) for backend in BACKENDS]
    cells = [f"{1e3 * m:9.3f} [{1e3 * b:8.3f}]" for m, b in zip(medians, best, strict=True)]
    print(f"{name:34s} {cells[0]} {cells[1]}   {medians[0] / medians[1]:6.1f} [{best[0] / best[1]:6.1f}]")


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--channels", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--only-steps", action="store_true")
    options = parser.parse_args()
    graph, dtype = ethanol_like(), getattr(torch, options.dtype)
    edges = graph.edge_index.shape[1]
    print(f"{graph.species.shape[0]} atoms, {edges} edges, {options.dtype}; {dispatch.load('cpu').reason}")
    for threads in options.threads:
        torch.set_num_threads(threads)
        for channels in options.channels:
            print(f"\n{threads} thread(s), {channels} channels; ms: {' and '.join(BACKENDS)}; ratio")
            if not options.only_steps:
                for name, work in operations(graph, channels, dtype).items():
                    report(name, measure(work, options.repetitions))
            model = model_of(channels, dtype)
            report("energy and forces", measure(lambda m=model: evaluate(m, graph), options.repetitions))  # type: ignore[misc]
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, amsgrad=True, fused=True)
            report("training step", measure(training_step(model, graph, optimizer), options.repetitions))


if __name__ == "__main__":
    main()
