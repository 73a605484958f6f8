"""The kinds of layers: an interaction with its residual, by the name that configurations use."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from macekit.model.interaction import Interaction
from macekit.model.linear import AttributeLinear, PlainResidual
from macekit.model.nonlinear import NonlinearInteraction


class LayerKind(NamedTuple):
    """What the kinds of layers differ in."""

    residual: type[AttributeLinear] | type[PlainResidual] | None
    """How the layer's input is added to its output; None: it is not, and the messages are mixed by element."""
    by_density: bool = False
    """Whether messages are divided by a learned density of neighbours; otherwise by their average number."""
    is_nonlinear: bool = False
    """Whether the interaction is the non-linear one."""


KINDS = {
    "agnostic": LayerKind(None),
    "agnostic_residual": LayerKind(AttributeLinear),
    "density": LayerKind(None, by_density=True),
    "density_residual": LayerKind(AttributeLinear, by_density=True),
    "nonlinear_residual": LayerKind(PlainResidual, is_nonlinear=True),
}


def make_interaction(kind: LayerKind, avg_num_neighbours: float, **shape: Any) -> nn.Module:
    """The interaction of a kind.

    Args:
        kind: Which.
        avg_num_neighbours: By which messages are divided where it is not by a density.
        shape: Arguments that all kinds share, see `Interaction`.
    """
    if kind.is_nonlinear:
        return NonlinearInteraction(**shape)
    return Interaction(
        **shape,
        avg_num_neighbours=avg_num_neighbours,
        mixes_by_element=kind.residual is None,
        by_density=kind.by_density,
    )
