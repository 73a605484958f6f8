"""How radial functions are evaluated while a model is trained: for every edge, or at knots for all edges together."""

from __future__ import annotations

from collections.abc import Sequence

from macekit.errors import ConfigError
from macekit.kernels.dispatch import is_compiled
from macekit.kernels.structure import LARGEST_TABLE_DEGREE
from macekit.model.interaction import Interaction
from macekit.model.mace import Mace
from macekit.model.radial_table import NUM_KNOTS, interpolation_error
from macekit.training.run_directory import RunLog

LARGEST_ERROR = 5e-6
"""Of the interpolation, relative to the largest value; forces then differ by less than 1e-4 of their size."""
MOST_KNOTS = 4 * NUM_KNOTS


class RadialFunctions:
    """The choice between a table and the exact functions, checked against the weights at the start of every epoch.

    Args:
        mode: "table", "exact", or "auto": a table where it is precise enough and has fewer knots than a batch edges.
        edges_per_batch: Mean number of edges.
    """

    def __init__(self, mode: str, edges_per_batch: float) -> None:
        self.mode, self.edges_per_batch = mode, edges_per_batch
        self.said = ("", "")

    def choose(self, models: Sequence[Mace], log: RunLog | None = None) -> None:
        """Set how the models evaluate their radial functions, by the weights of the first.

        Raises:
            ConfigError: If a table is asked for that the model cannot have, or that is not precise enough.
        """
        knots, reason = self._knots(models[0])
        for model in models:
            model.backbone.num_knots = knots
        unscheduled = models[0].backbone.unscheduled()
        step = f"operation by operation ({unscheduled})" if unscheduled else "layer by layer, second sweep scheduled"
        if log is not None and (reason, step) != self.said:
            self.said = (reason, step)
            log.line(f"radial functions: {reason}")
            log.line(f"training step: {step}")

    def _knots(self, model: Mace) -> tuple[int, str]:
        if self.mode == "exact":
            return 0, "exact, as asked for"
        if not model.backbone.tabulated():
            return self._without("they do not depend on the distance alone")
        if self.mode == "auto" and self.edges_per_batch < NUM_KNOTS:
            return 0, f"exact: a batch has {self.edges_per_batch:.0f} edges, fewer than a table has knots"
        if self.mode == "auto" and is_compiled() and _largest_degree(model) > LARGEST_TABLE_DEGREE:
            return 0, f"exact: compiled tables are for hidden degrees up to {LARGEST_TABLE_DEGREE}"
        knots = NUM_KNOTS
        while interpolation_error(model.backbone, knots) > LARGEST_ERROR:
            knots *= 2
            if knots > MOST_KNOTS:
                return self._without(f"{MOST_KNOTS} knots are not precise enough")
        return knots, f"a table of {knots} knots in every step, interpolation error below {LARGEST_ERROR:.0e}"

    def _without(self, reason: str) -> tuple[int, str]:
        if self.mode == "table":
            raise ConfigError(f"training.radial is 'table', and the radial functions cannot have one: {reason}",
                              "set training.radial: auto")  # fmt: skip
        return 0, f"exact: {reason}"


def _largest_degree(model: Mace) -> int:
    """Of the features that the layers send."""
    found = [module for module in model.backbone.modules() if isinstance(module, Interaction)]
    return max(max(interaction.structure.degrees_in) for interaction in found)
