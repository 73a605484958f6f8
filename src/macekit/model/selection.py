"""Part of a model: a level of theory, elements, rows of weights. What is kept computes the same, bit by bit."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from macekit.config import DatasetFacts, ModelConfig
from macekit.errors import DataError
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.model.radial import radii_of


def at_head(model: Mace, name: str = "") -> Mace:
    """The model with one level of theory alone: the same numbers, without the read-outs of the others.

    Args:
        model: A model; one that has a single level is returned as it is.
        name: Name of the head; empty: the default, or the only one.

    Raises:
        DataError: If there is no such head, or several and no default.
    """
    facts = model.facts
    check_head(facts, name)
    index = facts.head_index(name)
    if len(facts.heads) < 2:
        return model
    chosen = list(facts.heads)[index]
    others = [f".levels.{i}." for i in range(len(facts.heads)) if i != index]
    weights = {
        key.replace(f".levels.{index}.", "."): value
        for key, value in model.state_dict().items()
        if not any(other in key for other in others)
    }
    return _rebuilt(model, _choices_at(model.config, index), facts.at_head(chosen), weights)


def check_head(facts: DatasetFacts, name: str) -> None:
    """Refuse a name that is no head of the model.

    Raises:
        DataError: Also where the model has a single level of theory without a name.
    """
    if name and not facts.heads:
        raise DataError(f"no head '{name}': the model has a single level of theory without a name", "leave it out")
    facts.head_index(name)


def with_elements(model: Mace, numbers: Sequence[int]) -> Mace:
    """The model with some of its elements: the same numbers for them, and a smaller file.

    Args:
        model: A model.
        numbers: Atomic numbers to keep.

    Raises:
        DataError: If the model does not know one of them, or none is given.
    """
    from ase.data import chemical_symbols

    facts = model.facts
    chosen = sorted(set(numbers))
    if missing := [number for number in chosen if number not in facts.elements]:
        raise DataError(
            f"elements {', '.join(chemical_symbols[n] for n in missing)}: the model does not know them; it knows "
            f"{', '.join(chemical_symbols[n] for n in facts.elements)}"
        )
    if not chosen:
        raise DataError("elements: none given; expected at least one")
    if chosen == facts.elements:
        return model
    return with_rows(model, chosen, [facts.elements.index(number) for number in chosen])


def with_rows(model: Mace, elements: Sequence[int], rows: Sequence[int]) -> Mace:
    """The model for other elements, each with the weights of an element that it knows.

    Args:
        model: A model.
        elements: Atomic numbers of the new model, ascending.
        rows: For each, the position of the element whose weights it has.
    """
    facts = model.facts
    features = [*rows, *range(len(facts.elements), facts.num_node_features)]
    config = _choices_for(model.config, facts, elements)
    return _rebuilt(model, config, _facts_for(facts, elements), model.state_dict(), features)


def _rebuilt(
    model: Mace,
    config: ModelConfig,
    facts: DatasetFacts,
    weights: dict[str, Tensor],
    features: Sequence[int] | None = None,
) -> Mace:
    """A model with given weights, of which those by node feature have a row for each of the given features."""
    part = build_model(config.name, config, facts, dtype=model.dtype).to(model.device)
    expected = part.state_dict()
    if features is not None:
        index = torch.tensor(list(features), device=model.device)
        weights = {
            key: value if value.shape == expected[key].shape else value.index_select(0, index)
            for key, value in weights.items()
        }
    part.load_state_dict(weights)
    return part.train(model.training)


def _choices_at(config: ModelConfig, level: int) -> ModelConfig:
    """The configuration, without the constants that belong to other levels."""
    factors = config.radial_constants.get("zbl_factor", [])
    if len(factors) < 2:
        return config
    return config.model_copy(update={"radial_constants": config.radial_constants | {"zbl_factor": [factors[level]]}})


def _choices_for(config: ModelConfig, facts: DatasetFacts, elements: Sequence[int]) -> ModelConfig:
    """The configuration for other elements than those of the facts; what is usual for those that are new."""
    update: dict[str, object] = {"node_normalisation": config.node_normalisation or facts.num_node_features}
    if config.num_node_feats != "auto":
        update["num_node_feats"] = config.num_node_feats + len(elements) - len(facts.elements)
    if "covalent_radii" in config.radial_constants:
        given = dict(zip(facts.elements, config.radial_constants["covalent_radii"], strict=True))
        radii = [given.get(number, usual) for number, usual in zip(elements, radii_of(elements), strict=True)]
        update["radial_constants"] = config.radial_constants | {"covalent_radii": radii}
    return config.model_copy(update=update)


def _facts_for(facts: DatasetFacts, elements: Sequence[int]) -> DatasetFacts:
    """The facts for other elements; those that are new have no reference energy."""

    def chosen(energies: dict[str, list[float]]) -> dict[str, list[float]]:
        by_target = {target: dict(zip(facts.elements, values, strict=True)) for target, values in energies.items()}
        return {target: [values.get(number, 0.0) for number in elements] for target, values in by_target.items()}

    heads = {
        name: level.model_copy(update={"reference_energies": chosen(level.reference_energies)})
        for name, level in facts.heads.items()
    }
    changes = {"elements": list(elements), "reference_energies": chosen(facts.reference_energies), "heads": heads}
    return facts.model_copy(update=changes)
