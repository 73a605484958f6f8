"""Energies, forces and stress by the inference engine where it can compute a model, otherwise by the operators."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from macekit.errors import BackendUnavailable
from macekit.geometry.graph import Graph
from macekit.kernels import dispatch
from macekit.model.mace import Mace
from macekit.model.readout import pool
from macekit.outputs.derivatives import evaluate, per_volume

try:
    from macekit.kernels.engine import NativeEngine
    from macekit.outputs.folding import NotFoldable, fold, refusal
except ImportError as _failure:  # macekit was installed without a compiler
    _MISSING: str | None = f"the C++ extension is not there ({_failure})"
else:
    _MISSING = None

if TYPE_CHECKING:
    from macekit.kernels.engine import Evaluation, Neighbourhoods
    from macekit.kernels.folded import FloatArray

logger = logging.getLogger("macekit")
TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-7}
"""Largest difference to the operators on the built-in structure, relative to the largest number of the result."""


class SortedBatch(NamedTuple):
    """Structures whose atoms may move, as the engine has them. It belongs to one evaluation at a time."""

    model: Mace
    engine: NativeEngine
    around: Neighbourhoods
    batch: Tensor
    pbc: Tensor

    def evaluate(
        self, positions: FloatArray, cell: FloatArray, *, forces: bool | None = None, stress: bool | None = None
    ) -> dict[str, Tensor]:
        """What `CompiledModel.evaluate` gives, at these positions [N, 3] and cells [G, 3, 3], float64."""
        return self.outputs(self.engine.evaluate(self.around, positions, cell), cell, forces=forces, stress=stress)

    def outputs(
        self, found: Evaluation, cell: FloatArray, *, forces: bool | None = None, stress: bool | None = None
    ) -> dict[str, Tensor]:
        """The same out of what the engine found."""
        energies = torch.from_numpy(found.energies)
        outputs = {"y_graph_scalars": pool(energies, self.batch, len(self.pbc)), "y_graph_scalars::nodes": energies}
        if self.model.config.compute_forces if forces is None else forces:
            outputs["y_node_vector"] = torch.from_numpy(found.forces)
        if self.model.facts.targets.stress is not None if stress is None else stress:
            virial = torch.from_numpy(found.virial)
            outputs["stress"] = per_volume(virial, torch.tensor(cell, dtype=torch.float64), self.pbc)
        return outputs


class CompiledModel:
    """A model folded for the inference engine: energies, forces and virials in one native call.

    Made again when elements come that it has not seen. Later changes of the model's weights are not seen.

    Args:
        model: On the CPU; it is not changed.
        dtype: torch.float32 or torch.float64; None: the model's.

    Raises:
        BackendUnavailable: If the extension is not there, or if the engine does not have a feature of the model.
    """

    def __init__(self, model: Mace, dtype: torch.dtype | None = None) -> None:
        if (reason := _refusal(model)) is not None:
            raise BackendUnavailable(
                f"the inference engine cannot compute this model: {reason}", "use the model without compiling it"
            )
        self.model, self.dtype = model, model.dtype if dtype is None else dtype
        self._elements: list[int] = []
        self._engine: NativeEngine | None = None

    def evaluate(self, graph: Graph, *, forces: bool | None = None, stress: bool | None = None) -> dict[str, Tensor]:
        """What `outputs.derivatives.evaluate` gives, without anything for training.

        Args:
            graph: Batched graph on the CPU.
            forces: Whether forces are given; None: as the model's `compute_forces` says.
            stress: Whether the stress is given; None: where the model has a stress target.

        Raises:
            BackendUnavailable: If no radial table is fine enough, or if the engine does not reproduce the operators.
        """
        return self.sort(graph).evaluate(graph.positions.numpy(), graph.cell.numpy(), forces=forces, stress=stress)

    def sort(self, graph: Graph) -> SortedBatch:
        """The atoms and edges of a graph made ready, once for all positions at which they serve.

        Raises:
            BackendUnavailable: As in `evaluate`.
        """
        engine = self._engine_for(torch.unique(graph.species).tolist())
        species = self._index[graph.species]
        around = engine.sort(species, graph.batch, graph.edge_index, graph.edge_shifts, graph.num_graphs)
        return SortedBatch(self.model, engine, around, graph.batch, graph.pbc)

    def _engine_for(self, elements: Sequence[int]) -> NativeEngine:
        if self._engine is None or not set(elements) <= set(self._elements):
            union = sorted({*self._elements, *elements}) or [0]
            try:
                engine = NativeEngine(fold(self.model, union, self.dtype), self.dtype)
            except NotFoldable as failure:
                raise BackendUnavailable(f"the inference engine cannot compute this model: {failure}") from failure
            self._elements, self._engine = union, engine
            self._index = torch.zeros(len(self.model.facts.elements), dtype=torch.int64)
            self._index[union] = torch.arange(len(union))
            self._check()
        return self._engine

    def _check(self) -> None:
        """Compare with the operators on a few atoms of these elements.

        Raises:
            BackendUnavailable: If the results differ.
        """
        graph = _built_in(self._elements, self.model.backbone.cutoff)
        expected, found = evaluate(self.model, graph, forces=True, stress=False), self.evaluate(graph, forces=True)
        is_single = torch.float32 in (self.dtype, self.model.dtype)
        tolerance = TOLERANCES[torch.float32 if is_single else torch.float64]
        for name in ("y_graph_scalars::nodes", "y_node_vector"):
            difference = float((found[name] - expected[name]).abs().max())
            largest = float(expected[name].abs().max())
            if not difference <= tolerance * max(largest, 1e-3):
                self._engine = None
                raise BackendUnavailable(
                    f"the inference engine does not reproduce the operators: {name} differs by {difference:.1e} "
                    f"where the largest is {largest:.1e}"
                )


class Evaluator:
    """Outputs of a model by the fastest way that serves, which is said once where it is not the engine.

    Args:
        model: The model.
        is_frozen: Whether its weights never change; otherwise every call looks whether they have.
    """

    def __init__(self, model: Mace, *, is_frozen: bool = False) -> None:
        self.model, self._is_frozen = model, is_frozen
        self._compiled: CompiledModel | None = None
        self._version: object = None
        self._refused: str | None = None

    def __call__(self, graph: Graph, *, forces: bool | None = None, stress: bool | None = None) -> dict[str, Tensor]:
        """As `outputs.derivatives.evaluate`, without anything for training."""
        if (batch := self.sort(graph)) is None:
            return evaluate(self.model, graph, forces=forces, stress=stress)
        return batch.evaluate(graph.positions.numpy(), graph.cell.numpy(), forces=forces, stress=stress)

    def sort(self, graph: Graph) -> SortedBatch | None:
        """The graph made ready for the engine; None where the operators serve."""
        if not self.may_compile():
            return None
        try:
            if self._compiled is None:
                self._compiled = CompiledModel(self.model)
            return self._compiled.sort(graph)
        except BackendUnavailable as failure:
            self._refused = failure.message
            level = logging.INFO if self.model.facts.targets.energy is None else logging.WARNING
            logger.log(level, "%s; its results come from the operators, which is slower", failure.message)
        return None

    def may_compile(self) -> bool:
        """Whether the engine has not been refused for the model as it is."""
        if self.model.device.type != "cpu" or not dispatch.is_compiled():
            return False
        if not self._is_frozen or self._version is None:
            version = _version_of(self.model)
            if version != self._version:
                self._version, self._compiled, self._refused = version, None, None
        return self._refused is None


def _refusal(model: Mace) -> str | None:
    if _MISSING is not None:
        return _MISSING
    if model.device.type != "cpu":
        return f"it is on {model.device}"
    return refusal(model)


def _version_of(model: Mace) -> object:
    """Changes whenever weights are replaced or changed in place."""
    tensors = [*model.parameters(), *model.buffers()]
    return tuple((tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in tensors)


def _built_in(elements: Sequence[int], cutoff: float) -> Graph:
    """Five atoms without symmetry that all see each other, of as many of the elements as there are places."""
    positions = cutoff * torch.tensor(
        [[0.0, 0.0, 0.0], [0.41, 0.05, -0.09], [-0.13, 0.38, 0.11], [0.17, -0.15, 0.43], [0.29, 0.33, 0.31]],
        dtype=torch.float64,
    )
    count = len(positions)
    distances = torch.cdist(positions, positions)
    receiver, sender = torch.nonzero((distances < cutoff) & (distances > 0.0), as_tuple=True)
    return Graph(
        species=torch.tensor([elements[n % len(elements)] for n in range(count)]),
        positions=positions,
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        edge_index=torch.stack([sender, receiver]),
        edge_shifts=torch.zeros(len(sender), 3, dtype=torch.float64),
        batch=torch.zeros(count, dtype=torch.int64),
        node_features=torch.zeros(count, 0, dtype=torch.float64),
        edge_features=torch.zeros(len(sender), 0, dtype=torch.float64),
        head=torch.zeros(1, dtype=torch.int64),
    )


__all__ = ["CompiledModel", "Evaluator", "SortedBatch"]
