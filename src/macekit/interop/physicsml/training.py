"""How PhysicsML trains, as sections of our run files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from macekit.config.base import Config
from macekit.config.training import OptimizerConfig, SchedulerConfig
from macekit.errors import ConfigError

PRECISIONS = {"32": "float32", "32-true": "float32", "64": "float64", "64-true": "float64"}
DEVICES = {"auto": "auto", "cpu": "cpu", "gpu": "cuda", "cuda": "cuda"}
MONITORS = {"val_loss": "val/total/loss"}
"""Names of metrics in older versions of PhysicsML."""
MUST_BE: dict[str, tuple[Any, ...]] = {
    "max_steps": (-1, None),
    "max_time": (None,),
    "accumulate_grad_batches": (1, None),
    "gradient_clip_algorithm": ("norm", None),
    "fast_dev_run": (False, None),
    "overfit_batches": (0, 0.0, None),
    "limit_train_batches": (None, 1.0),
}
"""Fields of the trainer that change what is trained and have no counterpart, with the values that are allowed."""
MAPPED = ("max_epochs", "gradient_clip_val", "precision", "accelerator", "default_root_dir", "callbacks")


def training_sections(
    config: Mapping[str, Any], datamodule: Mapping[str, Any], notes: list[str]
) -> dict[str, dict[str, Any]]:
    """The sections training and run.

    Args:
        config: Of the model.
        datamodule: Its datamodule.
        notes: Receives what has no counterpart.

    Raises:
        ConfigError: If a field changes what is trained and has no counterpart.
    """
    trainer = dict(config.get("trainer") or {})
    for field, allowed in MUST_BE.items():
        if trainer.get(field, allowed[0]) not in allowed:
            raise ConfigError(
                f"from_physicsml: trainer.{field}: {trainer[field]!r} has no counterpart; it must be {allowed[0]!r}"
            )
    precision = str(trainer.get("precision", 32))
    if precision not in PRECISIONS:
        raise ConfigError(
            f"from_physicsml: trainer.precision: {precision} has no counterpart; there are {', '.join(PRECISIONS)}"
        )
    accelerator = str(trainer.get("accelerator", "auto"))
    if accelerator not in DEVICES:
        raise ConfigError(
            f"from_physicsml: trainer.accelerator: {accelerator} has no counterpart; there are {', '.join(DEVICES)}"
        )
    if left := sorted(field for field in trainer if field not in MUST_BE and field not in MAPPED):
        notes.append(f"trainer.{', '.join(left)}: no counterpart, what is trained does not depend on them")
    training = {
        "max_epochs": trainer.get("max_epochs", 1),
        "batch_size": _batch_size(datamodule, notes),
        "optimizer": _optimizer(config),
        "scheduler": _scheduler(config, notes),
        "ema": None,
        "gradient_clip": trainer.get("gradient_clip_val"),
        **_early_stopping(trainer.get("callbacks"), notes),
    }
    for field in ("train_features", "float32_matmul_precision"):
        if config.get(field):
            notes.append(f"{field}: no counterpart")
    if config.get("x_features") or config.get("y_features"):
        notes.append("x_features, y_features: no counterpart, targets are named in data.targets")
    run = {"device": DEVICES[accelerator], "dtype": PRECISIONS[precision]}
    if "default_root_dir" in trainer:
        run["directory"] = trainer["default_root_dir"]
    return {"training": training, "run": run}


def _optimizer(config: Mapping[str, Any]) -> dict[str, Any]:
    given = config.get("optimizer")
    if given is None:
        return OptimizerConfig().model_dump()
    _only(given, OptimizerConfig, (), "optimizer")
    return {"name": given.get("name", "Adam"), "config": dict(given.get("config") or {"lr": 1e-4})}


def _scheduler(config: Mapping[str, Any], notes: list[str]) -> dict[str, Any] | None:
    if "scheduler" not in config:
        return SchedulerConfig().model_dump()
    given = config["scheduler"]
    if given is None:
        return None
    _only(given, SchedulerConfig, ("frequency", "strict"), "scheduler")
    if given.get("frequency", 1) != 1:
        raise ConfigError(f"from_physicsml: scheduler.frequency: {given['frequency']} has no counterpart; it must be 1")
    if "strict" in given:
        notes.append("scheduler.strict: no counterpart, a monitored metric must be there")
    monitor = given.get("monitor", "val_loss")
    return {
        "name": given.get("name", "CosineAnnealingLR"),
        "config": dict(given.get("config") or {}),
        "monitor": MONITORS.get(monitor, monitor),
        "interval": given.get("interval", "step"),
    }


def _only(given: Any, kind: type[Config], more: tuple[str, ...], where: str) -> None:
    if not isinstance(given, Mapping):
        raise ConfigError(f"from_physicsml: {where}: expected a mapping, got {given!r}")
    if unknown := sorted(given.keys() - kind.model_fields.keys() - set(more)):
        raise ConfigError(f"from_physicsml: {where}: the field '{unknown[0]}' has no counterpart")


def _batch_size(datamodule: Mapping[str, Any], notes: list[str]) -> int:
    train = datamodule.get("train") or {}
    size = datamodule.get("train_batch_size") or train.get("batch_size", 1)
    if not isinstance(size, int):
        raise ConfigError(
            f"from_physicsml: datamodule.train.batch_size: {size!r} per source has no counterpart; give one number"
        )
    if left := sorted(train.keys() - {"batch_size"}):
        notes.append(f"datamodule.train.{', '.join(left)}: no counterpart, every structure is used once per epoch")
    others = ("validation", "test", "predict", "validation_batch_size", "num_workers", "pre_batch",
              "pre_batch_in_memory", "use_scaled_positions", "max_nbins")  # fmt: skip
    if left := [field for field in others if datamodule.get(field)]:
        notes.append(f"datamodule.{', '.join(left)}: no counterpart, results do not depend on them")
    return size


def _early_stopping(callbacks: Any, notes: list[str]) -> dict[str, Any]:
    """Early stopping; other callbacks are noted."""
    listed = list(callbacks.values()) if isinstance(callbacks, Mapping) and "name" not in callbacks else callbacks
    listed = [listed] if isinstance(listed, Mapping) else listed or []
    found: dict[str, Any] = {}
    for callback in listed:
        values = callback.get("config") or {}
        if callback.get("name") == "EarlyStopping":
            monitor = values.get("monitor", "val/total/loss")
            found = {"early_stopping": values.get("patience", 3), "monitor": MONITORS.get(monitor, monitor)}
            if left := sorted(values.keys() - {"monitor", "patience"}):
                notes.append(f"EarlyStopping.{', '.join(left)}: no counterpart")
        else:
            notes.append(f"trainer.callbacks: {callback.get('name')} has no counterpart")
    return found
