"""The sections of a run that starts from a trained model: what is not given is that model's."""

from __future__ import annotations

import math
from typing import Any

from macekit.config import DataConfig, FinetuneConfig, ModelConfig, TrainingRun
from macekit.config.model import BACKBONE_FIELDS, HEAD_FIELDS, variant_of
from macekit.errors import ConfigError
from macekit.model.mace import Mace
from macekit.model.merging import FOLDABLE, merged
from macekit.model.module_names import BACKBONES
from macekit.o3 import parse_hidden_irreps

OF_TUNERS = ("ratio_adapter_down", "initial_s", "lora_rank")
ADDITIONS = ("ssf", "adapter", "lora")


def tuner_of(run: TrainingRun, source: Mace) -> str:
    """The tuner of the new model's architecture.

    Raises:
        ConfigError: If the sections contradict each other, or the trained model has a tuner in the way.
    """
    assert run.finetune is not None
    choice, given = run.finetune.tuner, run.model.tuner
    before = source.config.tuner
    if choice in ADDITIONS and given not in ("none", choice):
        raise ConfigError(
            f"finetune.tuner: {choice} given, but the model section ({run.model.name}) says tuner: {given}; "
            "give one of them"
        )
    tuner = choice if choice in ADDITIONS else given
    assert tuner is not None
    if before == "adapter" and source.config.compatibility == "physicsml":
        raise ConfigError(
            "finetune.from: the adapters of this PhysicsML model have batch normalisations, which cannot be trained "
            "here; start from the model before its adapters"
        )
    if before in (*FOLDABLE, "none") or tuner == before:
        return tuner
    if tuner == "none":
        return before
    raise ConfigError(
        f"finetune.tuner: {tuner} given, but the trained model has a tuner of kind {before}, which cannot be folded "
        f"away; choose {before}, heads or full"
    )


def without_other_tuner(source: Mace, tuner: str) -> Mace:
    """The trained model, its tuner folded away where the new model has another."""
    return merged(source) if source.config.tuner in FOLDABLE and source.config.tuner != tuner else source


def completed(run: TrainingRun, source: Mace) -> TrainingRun:
    """The run with everything that it leaves to the trained model.

    Args:
        run: As given.
        source: The trained model, without a tuner that the new model does not have.

    Raises:
        ConfigError: If something given contradicts the trained model.
    """
    finetune = run.finetune
    assert finetune is not None
    model = ModelConfig.from_dict(_choices(run, finetune, source), "model")
    data = run.data.model_copy(update=_data(run.data, source))
    changed = run.model_copy(update={"model": model, "data": data})
    return TrainingRun.from_dict(changed.model_dump(mode="json"))


def _choices(run: TrainingRun, finetune: FinetuneConfig, source: Mace) -> dict[str, Any]:
    before = source.config.model_dump(mode="json")
    if source.config.avg_num_neighbours == "auto":
        before["avg_num_neighbours"] = source.facts.avg_num_neighbours
    given = {
        field: value
        for field, value in run.model.model_dump(mode="json", exclude_unset=True).items()
        if value != "auto"
    }
    tuner = tuner_of(run, source)
    choices = {field: before[field] for field in (*BACKBONE_FIELDS, *HEAD_FIELDS)}
    if tuner == source.config.tuner:
        choices |= {field: before[field] for field in OF_TUNERS}
    is_taken = takes_whole_backbone(finetune)
    if is_taken:
        for field in BACKBONE_FIELDS:
            if field in given and not _same(field, given[field], before[field]):
                raise ConfigError(
                    f"model.{field}: {given[field]!r} given, but the trained model has {before[field]!r}",
                    "leave it out: the architecture is that of the trained model",
                )
    choices |= {field: value for field, value in given.items() if field not in BACKBONE_FIELDS or not is_taken}
    if "compute_forces" not in given:
        choices["compute_forces"] = source.config.compute_forces and run.data.targets.y_node_vector is not None
    uncertainty = run.model.uncertainty if {"name", "uncertainty"} & given.keys() else source.config.uncertainty
    return choices | {"name": variant_of(tuner, uncertainty), "tuner": tuner, "uncertainty": uncertainty}


def takes_whole_backbone(finetune: FinetuneConfig) -> bool:
    """Whether all message passing is taken over."""
    return finetune.modules_to_match is None or any(name in BACKBONES for name in finetune.modules_to_match)


def _same(field: str, given: Any, before: Any) -> bool:
    if isinstance(given, float) and isinstance(before, float):
        return math.isclose(given, before, rel_tol=1e-9)
    if field in ("hidden_irreps", "edge_irreps") and given is not None and before is not None:
        return parse_hidden_irreps(given) == parse_hidden_irreps(before)
    return bool(given == before)


def _data(data: DataConfig, source: Mace) -> dict[str, Any]:
    facts = source.facts
    found = {"cutoff": facts.cutoff, "node_features": facts.node_features, "edge_features": facts.edge_features}
    for field, value in found.items():
        if field in data.model_fields_set and getattr(data, field) != value:
            raise ConfigError(
                f"data.{field}: {getattr(data, field)!r} given, but the trained model has {value!r}", "leave it out"
            )
    return found
