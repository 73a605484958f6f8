"""The loss of a batch: one reducer for masking, weights and averages of every output.

For each term, the element-wise loss is taken where a label is present, multiplied by the weights of the
structure and of the property, and summed. The total divides these sums by the numbers of present elements:

    L = Σ_t w_t · (Σ_present weight · loss) / (number present)

Sums and numbers are kept apart, so that they add up over batches and over processes and every mean is exact,
however the data are split. All in float64: total energies keep their digits without subtracting anything.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from macekit.config import LossConfig, ModelConfig, TargetsConfig
from macekit.errors import ConfigError
from macekit.geometry.batch import Batch
from macekit.training.loss_functions import MULTI_TASK, Term, loss_terms

_NEUTRAL = 0.5  # stands in for a missing label and its prediction: finite in every loss, its gradient unused
OUTPUTS = ("y_graph_scalars", "y_graph_vector", "y_node_scalars", "y_node_vector", "stress")
"""Documented outputs in the order of reports."""


def output_targets(targets: TargetsConfig) -> dict[str, list[str]]:
    """Names of the targets of every output that has any, in the order of the columns."""
    found: dict[str, list[str]] = {}
    for output in OUTPUTS:
        value = getattr(targets, output)
        if value:
            found[output] = list(value) if isinstance(value, list) else [value]
    return found


def output_losses(config: ModelConfig) -> dict[str, LossConfig]:
    """The losses that count: those given with a weight that is not zero, now or later."""
    given = {
        "y_graph_scalars": config.graph_scalars_loss,
        "y_graph_vector": config.y_graph_vector_loss_config,
        "y_node_scalars": config.y_node_scalars_loss_config,
        "y_node_vector": config.y_node_vector_loss_config,
        "stress": config.stress_loss_config,
    }
    return {output: loss for output, loss in given.items() if loss is not None and loss.is_ever_counted}


class LossSums(NamedTuple):
    """Sums of a loss that add up over batches and processes."""

    numerators: Tensor
    """Weighted sum of the loss over present elements, per term, float64 [T]."""
    counts: Tensor
    """Number of present elements per term, float64 [T]."""

    def plus(self, other: LossSums) -> LossSums:
        """The sums over both, without gradient."""
        return LossSums(self.numerators + other.numerators.detach(), self.counts + other.counts)


class Losses(nn.Module):
    """The losses of all outputs of a model.

    Args:
        config: The model's choices, which hold the loss of every output. Not changed.
        targets: Target of every output.

    Raises:
        ConfigError: For an unknown loss or keyword, or one that does not fit its output.
    """

    weights: Tensor
    is_mean: Tensor
    group: Tensor

    def __init__(self, config: ModelConfig, targets: TargetsConfig) -> None:
        super().__init__()
        names = output_targets(targets)
        self.targets = {output: names[output] for output in output_losses(config)}
        self.terms = nn.ModuleDict()
        self.multi_task: list[bool] = []
        group: list[int] = []
        for index, (output, loss) in enumerate(output_losses(config).items()):
            terms = loss_terms(loss, output, len(names[output]))
            self.terms[output] = nn.ModuleList(terms)
            self.multi_task.append(loss.name == MULTI_TASK)
            group += [index] * len(terms)
        if not group:
            raise ConfigError("nothing to train: no output has a loss with a weight above 0")
        flat = [term for terms in self.terms.values() for term in _as_terms(terms)]
        self.configs = output_losses(config)
        self._shares = [term.weight for term in flat]
        self.register_buffer("weights", torch.zeros(len(flat), dtype=torch.float64), persistent=False)
        self.register_buffer("is_mean", torch.tensor([term.is_mean for term in flat]), persistent=False)
        self.register_buffer("group", torch.tensor(group), persistent=False)
        self.set_epoch(1)

    @property
    def outputs(self) -> list[str]:
        """Outputs that have a loss."""
        return list(self.targets)

    def set_epoch(self, epoch: int) -> bool:
        """Give the outputs their weights of an epoch, counted from 1; whether they change with this very epoch."""
        by_output = [loss.weight_at(epoch) for loss in self.configs.values()]
        weights = [share * by_output[index] for share, index in zip(self._shares, self.group.tolist(), strict=True)]
        self.weights.copy_(torch.tensor(weights, dtype=torch.float64))
        return any(epoch in loss.weight_schedule for loss in self.configs.values())

    def weights_in_words(self) -> str:
        """The weights of the outputs as they are now."""
        first = {index: position for position, index in reversed(list(enumerate(self.group.tolist())))}
        values = [float(self.weights[first[index]]) / (self._shares[first[index]] or 1.0) for index in sorted(first)]
        return ", ".join(f"{output} {value:g}" for output, value in zip(self.outputs, values, strict=True))

    def empty(self) -> LossSums:
        """The sums over nothing."""
        return LossSums(torch.zeros_like(self.weights), torch.zeros_like(self.weights))

    def forward(self, predictions: dict[str, Tensor], batch: Batch) -> LossSums:
        """Sums over one batch.

        Args:
            predictions: By documented key, as `outputs.derivatives.evaluate` gives them.
            batch: Labels and weights by target name.

        Returns:
            Sums per term; a term without any label gives exact zeros and a zero gradient.
        """
        numerators, counts = [], []
        for output, terms in self.terms.items():
            labels = stacked_labels(batch, self.targets[output], output)  # [n, C]
            present = present_labels(labels)
            weights = _row_weights(batch, self.targets[output], output)  # [n, C or 1]
            prediction = predictions[output].to(torch.float64).reshape(labels.shape)
            std = predictions.get(f"{output}::std")
            std = None if std is None else std.to(torch.float64).reshape(labels.shape)
            for term in _as_terms(terms):
                numerator, count = _reduce(term, prediction, labels, present, weights, std, batch)
                numerators.append(numerator)
                counts.append(count)
        return LossSums(torch.stack(numerators), torch.stack(counts))

    def counts(self, batch: Batch) -> Tensor:
        """Number of present elements per term, as in the sums over the batch, float64 [T]; from the labels alone."""
        found = []
        for output, terms in self.terms.items():
            present = ~stacked_labels(batch, self.targets[output], output).isnan()
            found += [present[:, term.columns].sum().to(torch.float64) for term in _as_terms(terms)]
        return torch.stack(found)

    def per_output(self, sums: LossSums) -> Tensor:
        """Weighted loss of every output, in the order of `outputs`, from (global) sums, float64.

        Terms without any label contribute nothing; a multi-task loss is the mean over its tasks that have
        labels.
        """
        values = sums.numerators * self._factors(sums.counts)
        return values.new_zeros(len(self.outputs)).index_add(0, self.group, values)

    def total(self, sums: LossSums) -> Tensor:
        """The loss that is minimised, from (global) sums, float64 scalar."""
        return torch.dot(sums.numerators, self._factors(sums.counts))

    def _factors(self, counts: Tensor) -> Tensor:
        """What the sums of every term are multiplied by, float64 [T]; counts have no gradient."""
        present = counts > 0
        divisors = counts.where(self.is_mean & present, 1.0)
        if any(self.multi_task):
            tasks = counts.new_zeros(len(self.outputs)).index_add(0, self.group, present.to(counts.dtype))
            shared = torch.tensor(self.multi_task, device=counts.device)
            divisors = divisors * tasks.clamp(min=1.0).where(shared, 1.0).index_select(0, self.group)
        return self.weights / divisors


def stacked_labels(batch: Batch, targets: list[str], output: str) -> Tensor:
    """Labels of one output as float64 [n, C], n structures or atoms; NaN where missing.

    The stress of a structure without any periodicity does not exist: its label counts as missing.
    """
    if output in ("y_graph_scalars", "y_node_scalars"):
        return torch.stack([batch.labels[target] for target in targets], dim=1)
    labels = batch.labels[targets[0]]
    if output == "stress":
        periodic = batch.graph.pbc.any(dim=1)
        return labels.reshape(-1, 9).masked_fill(~periodic[:, None], torch.nan)
    return labels


def present_labels(labels: Tensor) -> Tensor | None:
    """Where labels are present; None: everywhere, as far as that is known without waiting for a device."""
    missing = labels.isnan()
    return None if labels.is_cpu and not bool(missing.any()) else ~missing


def _row_weights(batch: Batch, targets: list[str], output: str) -> Tensor:
    """Weight of structure × weight of property, [n, C] or, if all columns agree, [n, 1]."""
    if any(target in batch.property_weights for target in targets):
        ones = torch.ones_like(batch.weights)
        columns = [batch.property_weights.get(target, ones) for target in targets]
        weights = batch.weights[:, None] * torch.stack(columns, dim=1)
    else:
        weights = batch.weights[:, None]
    return weights[batch.graph.batch] if output.startswith("y_node") else weights


def _reduce(
    term: Term,
    prediction: Tensor,
    label: Tensor,
    present: Tensor | None,
    weights: Tensor,
    std: Tensor | None,
    batch: Batch,
) -> tuple[Tensor, Tensor]:
    """Weighted sum of one term over its present elements, and their number."""
    columns = term.columns
    prediction, label = prediction[:, columns], label[:, columns]
    std = None if std is None else std[:, columns]
    row_weights = weights if weights.shape[1] == 1 else weights[:, columns]
    if present is not None:
        present = present[:, columns]
        prediction, label = torch.where(present, prediction, _NEUTRAL), torch.where(present, label, _NEUTRAL)
        std = None if std is None else torch.where(present, std, _NEUTRAL)
    if term.per_atom:
        atoms = batch.graph.nodes_per_graph()[:, None].to(torch.float64)
        prediction, label = prediction / atoms, label / atoms
        std = None if std is None else std / atoms
    value = term(prediction, label, std)
    if term.is_of_rows:
        present = None if present is None else present.all(dim=1, keepdim=True)
        row_weights = row_weights.mean(dim=1, keepdim=True)
    if present is None:
        return (value * row_weights).sum(), label.new_full((), value.numel())
    return (value * row_weights.where(present, 0.0)).sum(), present.sum().to(torch.float64)


def _as_terms(terms: nn.Module) -> list[Term]:
    assert isinstance(terms, nn.ModuleList)
    return [term for term in terms if isinstance(term, Term)]
