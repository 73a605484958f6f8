"""Which parameters of a model are trained, and what is said about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from macekit.config.finetune import TunerChoice
from macekit.errors import ConfigError
from macekit.model.elements import element_parameters
from macekit.model.groups import ROWS
from macekit.model.mace import Mace
from macekit.model.module_names import members
from macekit.model.tuners import is_tuner_parameter


def trainable_parameters(
    model: Mace, tuner: TunerChoice | None, frozen: Sequence[str] = (), where: str = "freeze_modules"
) -> set[str]:
    """Names of the parameters that are trained.

    Args:
        model: A model.
        tuner: Choice of the finetune section; None and `full`: everything.
        frozen: Modules that are not trained, see `freeze_modules`.
        where: What froze them, the start of a message.

    Raises:
        ConfigError: If a module does not exist, or nothing is left.
    """
    names = [name for name, _ in model.named_parameters()]
    chosen = {name for name in names if tuner in (None, "full") or name.startswith("heads.")}
    if tuner not in (None, "full", "heads"):
        chosen |= {name for name in names if is_tuner_parameter(name)}
    for module in frozen:
        chosen -= set(members(module, names, where).values())
    if not chosen:
        raise ConfigError(f"{where}: {', '.join(frozen)}: nothing is left to train; leave a module out")
    return chosen


def set_trainable(model: Mace, names: Iterable[str], new_rows: Sequence[int] = ()) -> None:
    """Train these parameters and no others.

    Args:
        model: Changed in place.
        names: Parameters that are trained.
        new_rows: Elements, by their index, whose rows of all other parameters are trained too: those of new elements.
    """
    chosen = set(names)
    by_element = element_parameters(model) if new_rows else {}
    for name, parameter in model.named_parameters():
        is_partial = name not in chosen and name in by_element
        parameter.requires_grad_(name in chosen or is_partial)
        if is_partial:
            rows = torch.zeros(parameter.shape[0], dtype=torch.bool, device=parameter.device)
            rows[list(new_rows)] = True
            setattr(parameter, ROWS, rows)
        elif hasattr(parameter, ROWS):
            delattr(parameter, ROWS)


def mask_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Take away the gradient of rows that are not trained."""
    for parameter in parameters:
        rows: Tensor | None = getattr(parameter, ROWS, None)
        if rows is not None and parameter.grad is not None:
            parameter.grad[~rows] = 0.0


def num_trainable(model: nn.Module) -> int:
    """Number of values that training changes."""
    total = 0
    for parameter in model.parameters():
        rows: Tensor | None = getattr(parameter, ROWS, None)
        share = parameter.numel() if rows is None else int(rows.sum()) * (parameter.numel() // parameter.shape[0])
        total += share if parameter.requires_grad else 0
    return total


def trainable_report(model: nn.Module) -> str:
    """How many values are trained, and in which modules."""
    total = sum(parameter.numel() for parameter in model.parameters())
    trained = num_trainable(model)
    modules: Mapping[str, int] = _by_module(model)
    parts = ", ".join(f"{name} {count:,}" for name, count in modules.items())
    return f"trained: {trained:,} of {total:,} parameters ({100 * trained / max(total, 1):.2g} %): {parts}"


def part_of(name: str) -> str:
    """What a parameter is counted under: the tuner, the backbone's layers or embedding, or a head."""
    return "tuner" if is_tuner_parameter(name) else ".".join(name.split(".")[:2])


def _by_module(model: nn.Module) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = part_of(name)
        if getattr(parameter, ROWS, None) is not None:
            part = "rows of new elements"
            count = int(getattr(parameter, ROWS).sum()) * (parameter.numel() // parameter.shape[0])
        else:
            count = parameter.numel()
        found[part] = found.get(part, 0) + count
    return found
