"""Transfer learning as PhysicsML configures it, as our section finetune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from macekit.config.merging import laid_over
from macekit.config.training import OptimizerConfig, SchedulerConfig
from macekit.errors import ConfigError, did_you_mean
from macekit.interop.physicsml.training import training_sections

WHERE = "from_physicsml: transfer_learning"
FIELDS = ("pre_trained_model_path", "modules_to_match", "stages")
REMOTE = ("repo_url", "rev", "model_path_in_repo")
STAGE = ("freeze_modules", "trainer", "datamodule", "optimizer", "scheduler")


def transfer_section(config: Mapping[str, Any], datamodule: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    """The section finetune. A stage changes only what it gives, nested fields included.

    Args:
        config: Of the model, with `transfer_learning`.
        datamodule: Its datamodule.
        notes: Receives what has no counterpart.

    Raises:
        ConfigError: If a field is unknown, or asks for what is not there.
    """
    given = config["transfer_learning"]
    if not isinstance(given, Mapping):
        raise ConfigError(f"{WHERE}: expected a mapping, got {given!r}")
    if found := [field for field in REMOTE if given.get(field) and field != "model_path_in_repo"]:
        raise ConfigError(f"{WHERE}.{found[0]}: models are not fetched; give pre_trained_model_path")
    _only(given, (*FIELDS, *REMOTE), WHERE)
    if not given.get("pre_trained_model_path"):
        raise ConfigError(f"{WHERE}: pre_trained_model_path is required")
    base = training_sections(config, datamodule, [])["training"]
    stages = [
        _stage(stage, config, datamodule, base, f"{WHERE}.stages.{number}")
        for number, stage in enumerate(given.get("stages") or [])
    ]
    notes.append("transfer_learning: modules_to_match is {module of the new model: module of the trained model}")
    notes.append("transfer_learning: a stage changes only the fields it gives, nested ones included")
    return {
        "pre_trained_model_path": str(given["pre_trained_model_path"]),
        "modules_to_match": None if given.get("modules_to_match") is None else dict(given["modules_to_match"]),
        "reference_energies": "data",
        "stages": stages,
    }


def _stage(
    stage: Any, config: Mapping[str, Any], datamodule: Mapping[str, Any], base: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """One stage: the fields of the training section that it changes."""
    if not isinstance(stage, Mapping):
        raise ConfigError(f"{where}: expected a mapping, got {stage!r}")
    _only(stage, STAGE, where)
    changed = dict(config)
    defaults = {"optimizer": OptimizerConfig().model_dump(), "scheduler": SchedulerConfig().model_dump()}
    for section in ("trainer", "optimizer", "scheduler"):
        if stage.get(section):
            changed[section] = laid_over(config.get(section) or defaults.get(section, {}), stage[section])
    batches = laid_over(datamodule, stage.get("datamodule") or {})
    training = training_sections(changed, batches, [])["training"]
    differing = {field: value for field, value in training.items() if value != base.get(field)}
    return {"freeze_modules": list(stage.get("freeze_modules") or []), "trainer": differing}


def _only(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for field in given:
        if field not in known:
            raise ConfigError(f"{where}: the field '{field}' has no counterpart", did_you_mean(field, known))
