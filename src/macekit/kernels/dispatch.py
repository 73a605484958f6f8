"""Which implementation of the hot operations serves: a table of stateless backends and one choice.

Weights stay in the model; a backend is a module of functions. A backend is never part of a model's configuration.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from macekit.errors import BackendUnavailable, did_you_mean
from macekit.kernels import reference


class Backend(Protocol):
    """The six functions of a backend; their definitions are those of `kernels.reference`."""

    def edge_convolution(
        self, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str, /
    ) -> Tensor:
        """Messages summed at their receivers."""

    def edge_convolution_backward(
        self, grad: Tensor, h: Tensor, y: Tensor, radial: Tensor, sender: Tensor, receiver: Tensor, key: str, /
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Its gradients."""

    def edge_convolution_backward2(
        self,
        tangent_h: Tensor | None,
        tangent_y: Tensor | None,
        tangent_radial: Tensor | None,
        grad: Tensor,
        h: Tensor,
        y: Tensor,
        radial: Tensor,
        sender: Tensor,
        receiver: Tensor,
        key: str,
        /,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The gradients of its gradients."""

    def symmetric_contraction(self, a: Tensor, coefficients: Tensor, species: Tensor, key: str, /) -> Tensor:
        """Equivariant polynomials."""

    def symmetric_contraction_backward(
        self, grad: Tensor, a: Tensor, coefficients: Tensor, species: Tensor, key: str, /
    ) -> tuple[Tensor, Tensor]:
        """Their gradients."""

    def symmetric_contraction_backward2(
        self,
        tangent_a: Tensor | None,
        tangent_coefficients: Tensor | None,
        grad: Tensor,
        a: Tensor,
        coefficients: Tensor,
        species: Tensor,
        key: str,
        /,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of their gradients."""


BACKENDS: dict[str, Backend] = {"reference": reference}


def select(name: str) -> Backend:
    """The backend of a name.

    Raises:
        BackendUnavailable: If there is none of that name.
    """
    if name not in BACKENDS:
        raise BackendUnavailable(
            f"unknown backend '{name}'; available: {', '.join(BACKENDS)}", did_you_mean(name, BACKENDS)
        )
    return BACKENDS[name]


def backend_for(tensor: Tensor) -> Backend:
    """The backend that serves a tensor's device: the reference runs everywhere."""
    return select("reference")
