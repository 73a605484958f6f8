"""How radial functions are evaluated while a model is trained: for every edge, or at knots for all edges together."""

from __future__ import annotations

from collections.abc import Sequence

from macekit.errors import ConfigError
from macekit.kernels.dispatch import is_compiled
from macekit.kernels.structure import LARGEST_TABLE_DEGREE
from macekit.model.interaction import Interaction
from macekit.model.mace import Mace
from macekit.model.radial_table import interpolation_error
from macekit.training.run_directory import RunLog

LARGEST_ERROR = 5e-6
"""Of the interpolation, relative to the largest value; forces then differ by less than 1e-4 of their size."""
KNOTS = (192, 256, 384, 512, 768, 1024)
"""Numbers of knots between 0 and the cutoff that a table may have; the first that is precise enough is taken."""


class RadialFunctions:
    """The choice between a table and the exact functions, checked against the weights at the start of every epoch.

    Args:
        mode: "table", "exact", or "auto": a table where it is precise enough and has fewer knots than a batch edges.
        edges_per_batch: Mean number of edges.
        shortest: Shortest distance in the data, Å: a table is precise from there on.
    """

    def __init__(self, mode: str, edges_per_batch: float, shortest: float = 0.0) -> None:
        self.mode, self.edges_per_batch, self.shortest = mode, edges_per_batch, shortest
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
        pieces = "in one operation" if models[0].energy_in_one() else "layer by layer"
        step = f"operation by operation ({unscheduled})" if unscheduled else f"{pieces}, second sweep scheduled"
        if log is not None and (reason, step) != self.said:
            self.said = (reason, step)
            log.line(f"radial functions: {reason}")
            log.line(f"training step: {step}")

    def _knots(self, model: Mace) -> tuple[int, str]:
        if self.mode == "exact":
            return 0, "exact, as asked for"
        if not model.backbone.tabulated():
            return self._without("they do not depend on the distance alone")
        if self.mode == "auto" and is_compiled() and _largest_degree(model) > LARGEST_TABLE_DEGREE:
            return 0, f"exact: compiled tables are for hidden degrees up to {LARGEST_TABLE_DEGREE}"
        for knots in KNOTS:
            if self.mode == "auto" and self.edges_per_batch < knots:
                return 0, f"exact: a batch has {self.edges_per_batch:.0f} edges, fewer than a table has knots"
            if interpolation_error(model.backbone, knots, self.shortest) <= LARGEST_ERROR:
                return knots, f"a table of {knots} knots in every step, interpolation error below {LARGEST_ERROR:.0e}"
        return self._without(f"{KNOTS[-1]} knots are not precise enough")

    def _without(self, reason: str) -> tuple[int, str]:
        if self.mode == "table":
            raise ConfigError(f"training.radial is 'table', and the radial functions cannot have one: {reason}",
                              "set training.radial: auto")  # fmt: skip
        return 0, f"exact: {reason}"


def _largest_degree(model: Mace) -> int:
    """Of the features that the layers send."""
    found = [module for module in model.backbone.modules() if isinstance(module, Interaction)]
    return max(max(interaction.structure.degrees_in) for interaction in found)
