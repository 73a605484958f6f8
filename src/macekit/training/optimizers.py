"""Optimisers and schedulers of torch by name, with weight decay on the intended weights only."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn
from torch.optim import lr_scheduler

from macekit.config import OptimizerConfig, SchedulerConfig
from macekit.errors import ConfigError, did_you_mean
from macekit.model.groups import decayed_parameters, intent_of
from macekit.training.coupling_steps import step_in_trees, with_trees

_UNSUITABLE: Final = {
    "LBFGS": "it needs a closure that evaluates the loss several times per step",
    "SparseAdam": "it takes sparse gradients only",
    "Muon": "it takes matrices only, and a model also has vectors",
}
_COMPOSITE: Final = ("ChainedScheduler", "SequentialLR", "LambdaLR", "MultiplicativeLR")
OPTIMIZERS: Final[dict[str, type[torch.optim.Optimizer]]] = {
    name: value
    for name, value in vars(torch.optim).items()
    if inspect.isclass(value)
    and issubclass(value, torch.optim.Optimizer)
    and value is not torch.optim.Optimizer
    and name not in _UNSUITABLE
}
"""Optimisers of torch that step on dense gradients."""
SCHEDULERS: Final[dict[str, Any]] = {
    name: value
    for name, value in vars(lr_scheduler).items()
    if inspect.isclass(value)
    and issubclass(value, lr_scheduler.LRScheduler)
    and name != "LRScheduler"
    and not name.startswith("_")
    and name not in _COMPOSITE
}
"""Schedulers of torch that plain numbers describe."""


def parameter_groups(
    model: nn.Module, weight_decay: float, overrides: Mapping[str, Mapping[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """The trainable parameters in groups: with and without weight decay, apart where a group by intent differs.

    Args:
        model: A model; parameters that do not require a gradient are left out.
        weight_decay: Decay of the first group; the second has none.
        overrides: Arguments of groups by intent (`intent_of`); weight decay given there is for all of the group.

    Raises:
        ConfigError: If nothing is trainable, or there is nothing trainable in a group.
    """
    overrides = overrides or {}
    decayed = decayed_parameters(model)
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trainable:
        raise ConfigError("nothing to train: every parameter of the model is frozen; leave some trainable")
    unknown = decayed - {name for name, _ in model.named_parameters()}
    assert not unknown, f"decayed_parameters names what the model does not have: {sorted(unknown)}"
    common: list[dict[str, Any]] = [{"params": [], "weight_decay": weight_decay}, {"params": [], "weight_decay": 0.0}]
    special = {
        name: [{**group, "params": [], **arguments} for group in common] for name, arguments in overrides.items()
    }
    for name, parameter in trainable.items():
        special.get(intent_of(name), common)[0 if name in decayed else 1]["params"].append(parameter)
    for name, pair in special.items():
        if not any(group["params"] for group in pair):
            present = ", ".join(dict.fromkeys(intent_of(parameter) for parameter in trainable))
            raise ConfigError(f"training.optimizer.groups.{name}: nothing to train is in it; there are {present}")
    groups = [*common, *(group for pair in special.values() for group in pair if group["params"])]
    assert sum(len(group["params"]) for group in groups) == len(trainable)
    return groups


def build_optimizer(config: OptimizerConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The optimiser over two parameter groups, in torch's fused or multi-tensor form where it has one.

    Args:
        config: Name and keyword arguments. Not changed.
        model: The model whose trainable parameters are optimised.

    Raises:
        ConfigError: For an unknown name, one that cannot serve, or a wrong keyword.
    """
    where = "training.optimizer"
    if config.name in _UNSUITABLE:
        raise ConfigError(f"{where}.name: {config.name} cannot train here: {_UNSUITABLE[config.name]}; use Adam")
    if config.name not in OPTIMIZERS:
        raise _unknown("optimiser", config.name, OPTIMIZERS, where)
    kind = OPTIMIZERS[config.name]
    parameters = inspect.signature(kind.__init__).parameters
    _check_keywords(config.config, list(parameters)[2:], config.name, f"{where}.config")
    arguments = dict(config.config)
    default = parameters["weight_decay"].default if "weight_decay" in parameters else 0.0
    weight_decay = float(arguments.pop("weight_decay", default))
    for name, changes in config.groups.items():
        _check_keywords(changes, list(parameters)[2:], config.name, f"{where}.groups.{name}")
    groups = parameter_groups(model, weight_decay, {str(name): changes for name, changes in config.groups.items()})
    replaced = with_trees(groups, model, config.name)
    if "weight_decay" not in parameters:
        for group in groups:
            del group["weight_decay"]
    if not {"fused", "foreach"} & set(arguments) and not arguments.get("differentiable"):
        if "fused" in parameters:
            arguments["fused"] = True
        elif "foreach" in parameters:
            arguments["foreach"] = True
    try:
        optimizer = kind(groups, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{where}.config: {config.name} refuses {dict(config.config)}: {error}") from None
    step_in_trees(optimizer, replaced)
    return optimizer


def build_scheduler(
    config: SchedulerConfig, optimizer: torch.optim.Optimizer, *, num_epochs: int, num_steps: int
) -> Any:
    """The learning-rate scheduler.

    Args:
        config: Name and keyword arguments; "num_steps" and "num_epochs" stand for the length of the run.
            Not changed.
        optimizer: What it acts on.
        num_epochs: Epochs of the whole run.
        num_steps: Optimiser steps of the whole run.

    Raises:
        ConfigError: For an unknown name, one that cannot serve, or a wrong keyword.
    """
    where = "training.scheduler"
    if config.name in _COMPOSITE:
        raise ConfigError(
            f"{where}.name: {config.name} needs functions or other schedulers, which a run file cannot hold; "
            f"use one of: {', '.join(SCHEDULERS)}"
        )
    if config.name not in SCHEDULERS:
        raise _unknown("scheduler", config.name, SCHEDULERS, where)
    if config.name == "ReduceLROnPlateau" and config.interval == "step":
        raise ConfigError(f"{where}.interval: ReduceLROnPlateau watches a metric of an epoch; use interval: epoch")
    kind = SCHEDULERS[config.name]
    known = list(inspect.signature(kind.__init__).parameters)[2:]
    _check_keywords(config.config, known, config.name, f"{where}.config")
    lengths = {"num_epochs": num_epochs, "num_steps": num_steps}
    arguments = {
        key: lengths.get(value, value) if isinstance(value, str) else value for key, value in config.config.items()
    }
    try:
        return kind(optimizer, **arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"{where}.config: {config.name} refuses {dict(config.config)}: {error}") from None


def forget_plateau(scheduler: Any) -> None:
    """Let ReduceLROnPlateau seek the best anew, because its metric means something else from now on."""
    if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
        scheduler.best, scheduler.num_bad_epochs = scheduler.mode_worse, 0


def _check_keywords(given: dict[str, Any], known: list[str], name: str, where: str) -> None:
    for keyword in given:
        if keyword not in known:
            raise ConfigError(
                f"{where}.{keyword}: unknown argument of {name} (it has: {', '.join(known)})",
                did_you_mean(keyword, known),
            )


def _unknown(what: str, name: str, known: dict[str, Any], where: str) -> ConfigError:
    by_lower_case = {option.lower(): option for option in known}
    near = by_lower_case.get(name.lower())
    hint = f"did you mean '{near}'?" if near else did_you_mean(name, known)
    return ConfigError(f"{where}.name: unknown {what} '{name}'; known: {', '.join(known)}", hint)
