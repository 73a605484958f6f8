"""The same model for other elements: rows of its weights taken away, or added for elements that it does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch

from macekit.config import DatasetFacts, ModelConfig
from macekit.model.backbone import Backbone
from macekit.model.build import build_model
from macekit.model.linear import AttributeLinear
from macekit.model.mace import Mace
from macekit.model.nonlinear import NonlinearInteraction
from macekit.model.product import ProductBasis
from macekit.model.radial import radii_of
from macekit.model.selection import with_elements

NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)


class Adapted(NamedTuple):
    """A model for other elements."""

    model: Mace
    """Computes the same as the model before for elements that both know."""
    relatives: dict[int, int]
    """New elements, and the known element whose weights each starts with."""


def for_elements(model: Mace, elements: Sequence[int]) -> Adapted:
    """The model for the given elements.

    Args:
        model: A model. Not changed.
        elements: Atomic numbers. Those that the model does not know start with the weights of their nearest
            relative, and with no reference energy.
    """
    known = model.facts.elements
    relatives = {number: nearest_relative(number, known) for number in sorted(set(elements) - set(known))}
    extended = _extended(model, relatives) if relatives else model
    return Adapted(with_elements(extended, elements), relatives)


def _extended(model: Mace, relatives: Mapping[int, int]) -> Mace:
    """The model with further elements, each with the weights of a relative."""
    known, elements = model.facts.elements, sorted({*model.facts.elements, *relatives})
    rows = [known.index(relatives.get(number, number)) for number in elements]
    facts = _facts(model.facts, elements)
    config = _config(model.config, model.facts, elements)
    fresh = build_model(config.name, config, facts, dtype=model.dtype).to(model.device)
    features = torch.tensor([*rows, *range(len(known), model.facts.num_node_features)], device=model.device)
    by_element = element_parameters(model)
    fresh.load_state_dict(
        {
            name: value.index_select(0, features) if name in by_element else value
            for name, value in model.state_dict().items()
        }
    )
    return fresh.train(model.training)


def element_parameters(model: Mace) -> set[str]:
    """Names of the tensors with a row per element."""
    found: set[str] = set()
    for prefix, module in model.named_modules():
        if isinstance(module, Backbone):
            found.add(f"{prefix}.embedding")
        elif isinstance(module, AttributeLinear):
            found |= {f"{prefix}.{name}" for name, _ in module.named_parameters()}
        elif isinstance(module, ProductBasis):
            found |= {f"{prefix}.weights"} | ({f"{prefix}.rounding_weights"} if module.num_rounding else set())
        elif isinstance(module, NonlinearInteraction):
            found |= {f"{prefix}.sender_embedding", f"{prefix}.receiver_embedding"}
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


def _facts(facts: DatasetFacts, elements: Sequence[int]) -> DatasetFacts:
    def extended(energies: dict[str, list[float]]) -> dict[str, list[float]]:
        by_target = {target: dict(zip(facts.elements, values, strict=True)) for target, values in energies.items()}
        return {target: [values.get(number, 0.0) for number in elements] for target, values in by_target.items()}

    heads = {
        name: level.model_copy(update={"reference_energies": extended(level.reference_energies)})
        for name, level in facts.heads.items()
    }
    changes = {"elements": list(elements), "reference_energies": extended(facts.reference_energies), "heads": heads}
    return facts.model_copy(update=changes)


def _config(config: ModelConfig, facts: DatasetFacts, elements: Sequence[int]) -> ModelConfig:
    changes: dict[str, object] = {
        "num_node_feats": "auto",
        "node_normalisation": config.node_normalisation or facts.num_node_features,
    }
    if "covalent_radii" in config.radial_constants:
        given = dict(zip(facts.elements, config.radial_constants["covalent_radii"], strict=True))
        radii = [given.get(number, usual) for number, usual in zip(elements, radii_of(elements), strict=True)]
        changes["radial_constants"] = {**config.radial_constants, "covalent_radii": radii}
    return config.model_copy(update=changes)
