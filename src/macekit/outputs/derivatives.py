"""Derivatives of the energy: the only place in macekit that calls torch.autograd.grad."""

from __future__ import annotations

import torch
from torch import Tensor

from macekit.errors import UsageError
from macekit.geometry.graph import Graph
from macekit.geometry.vectors import strained
from macekit.kernels.sweeps import is_scheduled, sweep
from macekit.model.mace import Mace


def evaluate(
    model: Mace, graph: Graph, *, training: bool = False, forces: bool | None = None, stress: bool | None = None
) -> dict[str, Tensor]:
    """Outputs of the model with forces and stress.

    F = −dE/dx and σ = (1/V) dE/dε, with E the energy target alone (the sum of all graph
    scalars in an imported model with `compatibility: physicsml`), V the volume of the physical cell, and ε a
    symmetric strain of positions and cell.

    Args:
        model: The model.
        graph: Batched graph on the model's device.
        training: Whether the derivatives are to be differentiated again with respect to the weights.
        forces: Whether to compute forces; None: as the model's `compute_forces` says.
        stress: Whether to compute the stress; None: where the model has a stress target.

    Returns:
        The dictionary of `Mace.forward`, with `y_node_vector` [N, 3] for forces and `stress` [G, 3, 3] (eV/Å³,
        tension positive; NaN for structures that are not periodic or whose cell has no volume), float64.

    Raises:
        UsageError: If derivatives are asked for and the model predicts no energy.
    """
    forces = model.config.compute_forces if forces is None else forces
    stress = model.facts.targets.stress is not None if stress is None else stress
    if not forces and not stress:
        with torch.set_grad_enabled(training):
            return model(graph)  # type: ignore[no-any-return]
    if model.facts.targets.energy is None:
        raise UsageError(
            "forces and stress are derivatives of the energy; this model has no graph scalar, only "
            f"{', '.join(model.facts.targets.kinds()) or 'nothing'}",
            "name an energy in data.targets.y_graph_scalars",
        )
    with torch.inference_mode(False), torch.enable_grad():
        graph = Graph(*(tensor.clone() if tensor.is_inference() else tensor for tensor in graph))
        if is_scheduled() and model.energy_in_one():
            outputs = _in_one(model, graph, forces, stress)
            return outputs if training else _plain(outputs)
        positions = graph.positions.detach().requires_grad_()
        moved = graph._replace(positions=positions)
        strain = None
        if stress:
            strain = graph.cell.new_zeros(graph.num_graphs, 3, 3).requires_grad_()
            moved = strained(moved, (strain + strain.mT) / 2.0)
        outputs = model(moved)
        energy = outputs["y_graph_scalars"][:, _columns(model)]
        inputs = [positions] if strain is None else [positions, strain]
        gradients = _gradients(energy, inputs, training)
        if forces:
            outputs["y_node_vector"] = -gradients[0]
        if strain is not None:
            outputs["stress"] = per_volume(gradients[1], graph.cell, graph.pbc)
    return outputs if training else _plain(outputs)


def _plain(outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without graph."""
    return {name: value.detach() for name, value in outputs.items()}


def _in_one(model: Mace, graph: Graph, forces: bool, stress: bool) -> dict[str, Tensor]:
    """The same where the model gives the energy together with its gradient by the vectors of the edges."""
    factors = graph.cell.new_zeros(len(model.facts.targets.y_graph_scalars))
    factors[_columns(model)] = 1.0
    outputs, (_, vectors, by_vectors) = model.with_gradient(graph, factors)
    sender, receiver = graph.edge_index
    if forces:
        pulls = torch.zeros_like(graph.positions).index_add(0, sender, by_vectors)
        outputs["y_node_vector"] = pulls.index_add(0, receiver, by_vectors, alpha=-1.0)
    if stress:
        virial = graph.cell.new_zeros(graph.num_graphs, 3, 3)
        of_edges = vectors[:, :, None] * by_vectors[:, None]  # [E, 3, 3]
        virial = virial.index_add(0, graph.batch.index_select(0, sender), (of_edges + of_edges.mT) / 2.0)
        outputs["stress"] = per_volume(virial, graph.cell, graph.pbc)
    return outputs


def _gradients(energy: Tensor, inputs: list[Tensor], training: bool) -> list[Tensor]:
    """Of the sum of the energies by every input, zeros where they do not depend on it."""
    if not energy.requires_grad:  # no edges at all
        return [torch.zeros_like(tensor) for tensor in inputs]
    with sweep(geometry=True, weights=False):
        found = torch.autograd.grad(
            energy.sum(), inputs, create_graph=training, retain_graph=training, allow_unused=True
        )
    return [
        torch.zeros_like(tensor) if gradient is None else gradient
        for gradient, tensor in zip(found, inputs, strict=True)
    ]


def _columns(model: Mace) -> list[int]:
    """Which of the graph scalars add up to what forces are derivatives of."""
    names = model.facts.targets.y_graph_scalars
    if model.config.compatibility == "physicsml":
        return list(range(len(names)))
    return [names.index(model.facts.targets.energy or "")]


def per_volume(virial: Tensor, cell: Tensor, pbc: Tensor) -> Tensor:
    """dE/dε over the volume of the physical cell, [G, 3, 3]; NaN where there is none."""
    volume = torch.linalg.det(cell).abs()
    has_stress = pbc.any(dim=1) & (volume > 0.0)
    safe = torch.where(has_stress, volume, torch.ones_like(volume))
    missing = torch.full_like(virial, torch.nan)
    return torch.where(has_stress[:, None, None], virial / safe[:, None, None], missing)
