"""The same model for other elements: rows of its weights taken away, or added for elements that it does not know."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from macekit.config import DatasetFacts, ModelConfig
from macekit.model.backbone import Backbone
from macekit.model.build import build_model
from macekit.model.linear import AttributeLinear
from macekit.model.mace import Mace
from macekit.model.nonlinear import NonlinearInteraction
from macekit.model.product import ProductBasis
from macekit.model.radial import radii_of

NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)


class Adapted(NamedTuple):
    """A model for other elements."""

    model: Mace
    """Predicts the same as the model before for elements that both know."""
    relatives: dict[int, int]
    """New elements, and the known element whose weights each starts with."""


def with_elements(model: Mace, elements: Sequence[int]) -> Adapted:
    """The model for the given elements.

    Args:
        model: A model. Not changed.
        elements: Atomic numbers. Those that the model does not know start with the weights of their nearest
            relative, and with no reference energy.
    """
    known, wanted = model.facts.elements, sorted(set(elements))
    if wanted == known:
        return Adapted(model, {})
    relatives = {number: nearest_relative(number, known) for number in wanted if number not in known}
    rows = [known.index(relatives.get(number, number)) for number in wanted]
    facts = _facts(model.facts, wanted)
    config = _config(model.config, known, wanted, rows)
    fresh = build_model(config.name, config, facts, dtype=torch.float64)
    width_before, width = model.facts.num_node_features, facts.num_node_features
    rows += range(len(known), width_before)
    changed = element_parameters(model)
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        state[name] = value.detach().cpu()
        if name in changed:
            scale = math.sqrt(width / width_before) if changed[name] else 1.0
            state[name] = state[name][rows].double() * scale
    fresh.load_state_dict(state)
    return Adapted(fresh.to(device=model.device, dtype=model.dtype).train(model.training), relatives)


def element_parameters(model: Mace) -> dict[str, bool]:
    """Names of the tensors with a row per element, and whether they are divided by √(number of rows) when used."""
    found: dict[str, bool] = {}
    for prefix, module in model.named_modules():
        if isinstance(module, Backbone):
            found[f"{prefix}.embedding"] = True
        elif isinstance(module, AttributeLinear):
            found |= {f"{prefix}.{name}": True for name, _ in module.named_parameters()}
        elif isinstance(module, ProductBasis):
            found[f"{prefix}.weights"] = False
            if module.num_rounding:
                found[f"{prefix}.rounding_weights"] = False
        elif isinstance(module, NonlinearInteraction):
            found |= {f"{prefix}.sender_embedding": False, f"{prefix}.receiver_embedding": False}
    return found


def nearest_relative(number: int, known: Sequence[int]) -> int:
    """The known element of the nearest group, and there of the nearest period."""
    group = _group(number)
    return min(known, key=lambda other: (abs(_group(other) - group), abs(other - number), other))


def _group(number: int) -> int:
    """Group 1 to 18; lanthanides and actinides count as group 3, and hydrogen is on its own."""
    if number == 1:
        return 0
    start = max((noble for noble in NOBLE_GASES if noble < number), default=0)
    end = min(noble for noble in NOBLE_GASES if noble >= number)
    if number == end:
        return 18
    return number - start if number - start <= 2 else max(3, 18 - (end - number))


def _facts(facts: DatasetFacts, elements: list[int]) -> DatasetFacts:
    energies = {
        target: [dict(zip(facts.elements, values, strict=True)).get(number, 0.0) for number in elements]
        for target, values in facts.reference_energies.items()
    }
    return facts.model_copy(update={"elements": elements, "reference_energies": energies})


def _config(config: ModelConfig, known: Sequence[int], elements: Sequence[int], rows: Sequence[int]) -> ModelConfig:
    changes: dict[str, object] = {"num_node_feats": "auto"}
    if "covalent_radii" in config.radial_constants:
        given = config.radial_constants["covalent_radii"]
        radii = [
            given[row] if number in known else usual
            for row, number, usual in zip(rows, elements, radii_of(elements), strict=True)
        ]
        changes["radial_constants"] = {**config.radial_constants, "covalent_radii": radii}
    return config.model_copy(update=changes)
