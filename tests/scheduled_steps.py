"""Gradients of training of small models, by whatever evaluates them: what is scheduled against the operators."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from macekit.data import Structure
from macekit.geometry.graph import Graph, collate
from macekit.geometry.neighbours import graph_from_structure
from macekit.kernels.sweeps import scheduled, sweep
from macekit.model.mace import Mace
from macekit.outputs.derivatives import evaluate
from structures import cubic_copper, methane, mixed_elements, water

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "late envelope": {"envelope": "messages"},
    "degree 2": {"hidden_irreps": "3x0e + 3x1o + 3x2e"},
    "residual in the first layer": {"interaction_first": "agnostic_residual"},
    "no residual": {"interaction": "agnostic"},
    "bias": {"scalar_bias": True},
    "three layers": {"num_interactions": 3},
    "fewer channels sent": {"edge_irreps": "2x0e + 2x1o"},
    "last layer read alone": {"read_layers": "last"},
}
LOSSES = {
    "everything": None,
    "energy": ("y_graph_scalars",),
    "forces": ("y_node_vector",),
    "stress": ("stress",),
    "forces and stress": ("y_node_vector", "stress"),
}


def graph_of(model: Mace, structures: Sequence[Structure] | None = None) -> Graph:
    if structures is None:
        structures = [water(), methane(), mixed_elements(), cubic_copper()]
    return collate([graph_from_structure(s, model.facts.elements, model.facts.cutoff) for s in structures])


def gradients(
    model: Mace, outputs: tuple[str, ...] | None, *, allowed: bool, structures: Sequence[Structure] | None = None
) -> dict[str, Tensor]:
    """Of a loss on some outputs, every number of which has its own weight."""
    model.zero_grad(set_to_none=True)
    with scheduled(allowed):
        found = evaluate(model, graph_of(model, structures), training=True)
    total = torch.zeros((), dtype=torch.float64)
    for name in found if outputs is None else outputs:
        numbers = torch.arange(found[name].numel(), dtype=torch.float64).add(1.0).sqrt().sin().view(found[name].shape)
        total = total + (numbers * found[name] + 0.1 * found[name].square()).nan_to_num().sum()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with sweep(geometry=False, weights=True):
        torch.autograd.backward(total, inputs=trained)
    return {n: p.grad.double().clone() for n, p in model.named_parameters() if p.grad is not None}


def assert_alike(found: dict[str, Tensor], expected: dict[str, Tensor], allowed: float) -> None:
    for name in found.keys() | expected.keys():
        theirs = expected.get(name, torch.zeros(1, dtype=torch.float64))
        mine = found.get(name, torch.zeros_like(theirs))
        assert float((mine - theirs).norm()) <= allowed * (1e-3 + float(theirs.norm())), name


def assert_a_second_gradient_is_refused(model: Mace) -> None:
    with scheduled():
        energy = evaluate(model, graph_of(model), training=True)["y_graph_scalars"].sum()
    with sweep(geometry=False, weights=True):
        torch.autograd.backward(energy, retain_graph=True)
        with pytest.raises(RuntimeError, match=r"gradients by the weights once; evaluate the model again"):
            torch.autograd.backward(energy)


def with_table(model: Mace) -> Mace:
    model.backbone.num_knots = 60
    return model


def results_of(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[Any]:
    """What a function or class of a module gives from here on."""
    found: list[Any] = []
    real = getattr(module, name)

    def counted(*args: Any) -> Any:
        found.append(real(*args))
        return found[-1]

    monkeypatch.setattr(module, name, counted)
    return found


def of_whole_registers(options: dict[str, Any]) -> dict[str, Any]:
    """The same kind of layer with 16 channels in place of three or two."""
    wide = {name: re.sub(r"\b[23]x", "16x", value) for name, value in options.items() if name.endswith("irreps")}
    return {"hidden_irreps": "16x0e + 16x1o", **options, **wide}
