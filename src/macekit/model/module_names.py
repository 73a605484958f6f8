"""Parts of a model by the names that configurations use: the documented ones, and the beginnings of our own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from macekit.errors import ConfigError, did_you_mean

BACKBONES: Final = ("mace", "ssf_mace", "adapter_mace", "backbone")
HEADS: Final = {
    "graph_scalars_head": "graph_scalars",
    "graph_scalars_head_std": "graph_scalars_std",
    "graph_vector_head": "graph_vector",
    "node_scalars_head": "node_scalars",
    "node_vector_head": "node_vector",
}
_LAYERS: Final = {
    "interactions": r"layers\.{i}\.interaction\.",
    "messages": r"layers\.{i}\.product\.(?=weights$|rounding_)",
    "node_updates": r"layers\.{i}\.(?=product\.linear\.|residual\.|bias$)",
    "ssf": r"tuners\.{i}\.(?=gamma$|beta$)",
    "adapters_before": r"tuners\.{i}\.before\.",
    "adapters_after": r"tuners\.{i}\.after\.",
    "s_params_before": r"tuners\.{i}\.(?=s_before$)",
    "s_params_after": r"tuners\.{i}\.(?=s_after$)",
    "batch_norms": r"tuners\.{i}\.(?=gamma$|beta$)",
}
_OF_BACKBONE: Final = {"node_embedding": r"(?=embedding$)", "radial_embedding": r"(?=bessel)"}
WITHOUT_PARAMETERS: Final = ("radial_embedding", "batch_norms")
"""Documented modules that have nothing to train here, or only in imported models."""


def members(module: str, names: Iterable[str], where: str) -> dict[str, str]:
    """The tensors of a module.

    Args:
        module: Documented name, such as `mace.interactions.0`, or the beginning of our names, such as
            `backbone.layers.0`.
        names: Names of all tensors of the model.
        where: What asks, the start of the message.

    Returns:
        Names by what they are called inside the module, so that two modules of the same kind can be compared.

    Raises:
        ConfigError: If the model has no such module; names the nearest.
    """
    names = list(names)
    pattern = re.compile(_pattern(module) or rf"{re.escape(module)}(\.|$)")
    found = {}
    for name in names:
        if (match := pattern.match(name)) is not None:
            layer = match.groupdict().get("layer")
            found[f"{layer}.{name[match.end() :]}" if layer else name[match.end() :]] = name
    if not found and module.rsplit(".", maxsplit=1)[-1] not in WITHOUT_PARAMETERS:
        known = known_modules(names)
        raise ConfigError(
            f"{where}: the model has no module '{module}'; it has: {', '.join(known)}", did_you_mean(module, known)
        )
    return found


def known_modules(names: Iterable[str]) -> list[str]:
    """Documented modules that the tensors of a model make up."""
    names = list(names)
    parts = [part for part in (*_OF_BACKBONE, *_LAYERS) if part not in WITHOUT_PARAMETERS]
    candidates = ["mace", *(f"mace.{part}" for part in parts), *HEADS]
    return [module for module in candidates if any(re.match(_pattern(module) or "$", name) for name in names)]


def _pattern(module: str) -> str | None:
    """A regular expression of the beginnings of names, for a documented module."""
    first, _, rest = module.partition(".")
    if not rest and first in HEADS:
        return rf"heads\.{HEADS[first]}\."
    if first not in BACKBONES:
        return None
    if not rest:
        return r"backbone\."
    part, _, layer = rest.partition(".")
    if part in _OF_BACKBONE and not layer:
        return rf"backbone\.{_OF_BACKBONE[part]}"
    if part in _LAYERS and (not layer or layer.isdigit()):
        return rf"backbone\.{_LAYERS[part].replace('{i}', layer or '(?P<layer>[0-9]+)')}"
    return None
