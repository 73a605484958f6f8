"""Losses by name: every regression loss of `torch.nn`, and those of vectors; checked before training starts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from macekit.config import LossConfig
from macekit.errors import ConfigError, did_you_mean
from macekit.training.vector_losses import VECTOR_LOSSES, L2NormLoss

ELEMENTWISE: Final[dict[str, type[nn.Module]]] = {
    name: getattr(nn, name)
    for name in (
        "MSELoss",
        "L1Loss",
        "SmoothL1Loss",
        "HuberLoss",
        "GaussianNLLLoss",
        "PoissonNLLLoss",
        "BCELoss",
        "BCEWithLogitsLoss",
        "SoftMarginLoss",
        "HingeEmbeddingLoss",
        "KLDivLoss",
    )
}
"""The losses of `torch.nn` that compare element with element, so that a missing label can be left out."""

OF_ROWS: Final[dict[str, type[nn.Module]]] = {
    "CrossEntropyLoss": nn.CrossEntropyLoss,
    "MultiLabelSoftMarginLoss": nn.MultiLabelSoftMarginLoss,
}
"""The losses of `torch.nn` that compare a row of scalars, classes or labels, with a row."""

ALIASES: Final[dict[str, tuple[str, bool]]] = {
    "WeightedMSELoss": ("MSELoss", True),
    "MaskedMSELoss": ("MSELoss", False),
    "SerialBCEWithLogitsLoss": ("BCEWithLogitsLoss", False),
}
"""macekit's names: the loss of `torch.nn` behind each, and whether it compares values per atom."""

MULTI_TASK: Final = "MultiTaskLoss"
_TENSOR_ARGUMENTS: Final = ("weight", "pos_weight")
_OWN_ARGUMENTS: Final = ("per_atom",)


class Term(nn.Module):
    """One loss over some columns of an output.

    Args:
        function: A loss with `reduction="none"`, of every element, or of every row.
        columns: Which columns of the output it sees.
        weight: Its factor within the loss of the output, its share of a multi-task loss not included.
        is_mean: Whether the sum over present elements is divided by their number.
        per_atom: Whether predictions and labels are divided by the number of atoms first.
    """

    def __init__(self, function: nn.Module, columns: slice, weight: float, *, is_mean: bool, per_atom: bool) -> None:
        super().__init__()
        self.function = function
        self.columns = columns
        self.weight = weight
        self.is_mean = is_mean
        self.per_atom = per_atom
        self.needs_variance = isinstance(function, nn.GaussianNLLLoss)
        self.is_of_rows = isinstance(function, (L2NormLoss, *OF_ROWS.values()))

    def forward(self, prediction: Tensor, label: Tensor, std: Tensor | None) -> Tensor:
        """Loss of every element, in the shape of `prediction`, or of every row; `std` for Gaussian likelihoods."""
        value: Tensor
        if self.needs_variance:
            assert std is not None
            value = self.function(prediction, label, std.square())
        else:
            value = self.function(prediction, label)
        return value[:, None] if value.dim() == 1 else value


def loss_terms(config: LossConfig, output: str, num_columns: int) -> list[Term]:
    """The terms of the loss of one output: one, or one per column for `MultiTaskLoss`.

    Args:
        config: Name, weight and keyword arguments. Not changed.
        output: Documented name of the output, for messages and for what is allowed.
        num_columns: Number of columns C of the output.

    Raises:
        ConfigError: For an unknown name or keyword, or a loss that does not fit the output.
    """
    where = f"model.{output}_loss_config"
    if config.name != MULTI_TASK:
        return [_term(config, output, slice(None), where)]
    if not output.endswith("_scalars"):
        raise ConfigError(f"{where}: MultiTaskLoss has one loss per scalar column, and {output} is no set of scalars")
    given = dict(config.config)
    tasks = given.pop("losses_configs", None)
    if given or not isinstance(tasks, list):
        raise ConfigError(
            f"{where}.config: MultiTaskLoss takes exactly 'losses_configs', a list with one loss per column; "
            f"got {sorted(config.config) or 'nothing'}"
        )
    if len(tasks) != num_columns:
        raise ConfigError(
            f"{where}.config.losses_configs: {len(tasks)} losses for {num_columns} columns of {output}; "
            "give one loss per column"
        )
    terms = []
    for column, task in enumerate(tasks):
        place = f"{where}.config.losses_configs.{column}"
        inner = LossConfig.from_dict(task, where=place)
        if inner.name == MULTI_TASK:
            raise ConfigError(f"{place}: a MultiTaskLoss cannot hold another; name an element-wise loss")
        if inner.weight_schedule:
            raise ConfigError(f"{place}.weight_schedule: give it to the MultiTaskLoss as a whole")
        terms.append(_term(inner, output, slice(column, column + 1), place, inner.weight))
    return terms


def _term(config: LossConfig, output: str, columns: slice, where: str, weight: float = 1.0) -> Term:
    name, per_atom = ALIASES.get(config.name, (config.name, False))
    kinds = ELEMENTWISE | VECTOR_LOSSES | OF_ROWS
    if name not in kinds:
        raise _unknown(config.name, where)
    if name in OF_ROWS and not (output.endswith("_scalars") and columns == slice(None)):
        raise ConfigError(
            f"{where}: {name} compares whole rows of scalars; give it to y_graph_scalars or y_node_scalars"
        )
    if name in VECTOR_LOSSES and output.endswith("_scalars"):
        raise ConfigError(f"{where}: {name} is of vectors, and {output} is none; use HuberLoss, MSELoss or L1Loss")
    arguments = dict(config.config)
    per_atom = bool(arguments.pop("per_atom", per_atom))
    reduction = arguments.pop("reduction", "mean")
    if reduction not in ("mean", "sum"):
        raise ConfigError(f"{where}.config.reduction: expected 'mean' or 'sum', got {reduction!r}")
    if per_atom and not output.startswith("y_graph"):
        raise ConfigError(
            f"{where}: {config.name} compares values per atom, which {output} already is; use {name} without per_atom"
        )
    if name == "GaussianNLLLoss" and output != "y_graph_scalars":
        raise ConfigError(f"{where}: GaussianNLLLoss needs a variance, which only y_graph_scalars has")
    function = _build(kinds[name], config.name, arguments, where)
    return Term(function, columns, weight, is_mean=reduction == "mean", per_atom=per_atom)


def _build(kind: type[nn.Module], name: str, arguments: Mapping[str, Any], where: str) -> nn.Module:
    known = [
        parameter
        for parameter in inspect.signature(kind.__init__).parameters
        if parameter not in ("self", "size_average", "reduce")
    ]
    allowed = [*known, *_OWN_ARGUMENTS]
    for argument in arguments:
        if argument not in known:
            raise ConfigError(
                f"{where}.config.{argument}: unknown argument of {name} (it has: {', '.join(allowed)})",
                did_you_mean(argument, allowed),
            )
    ready: dict[str, Any] = {"reduction": "none"}
    for argument, value in arguments.items():
        try:
            is_tensor = argument in _TENSOR_ARGUMENTS
            ready[argument] = torch.tensor(value, dtype=torch.float64) if is_tensor else value
        except (TypeError, ValueError):
            raise ConfigError(
                f"{where}.config.{argument}: expected a number or a list of numbers, got {value!r}"
            ) from None
    try:
        return kind(**ready)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}.config: {name} refuses {dict(arguments)}: {error}") from None


def _unknown(name: str, where: str) -> ConfigError:
    known = [*ELEMENTWISE, *OF_ROWS, *VECTOR_LOSSES, *ALIASES, MULTI_TASK]
    if name.endswith("Loss") and hasattr(nn, name):
        return ConfigError(
            f"{where}.name: {name} does not compare prediction and label element by element, "
            f"so it cannot serve here; use one of: {', '.join(known)}"
        )
    return ConfigError(
        f"{where}.name: unknown loss '{name}'; known losses: {', '.join(known)}", did_you_mean(name, known)
    )
