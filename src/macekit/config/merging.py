"""Nested values laid over others: presets under run files, stages over runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def laid_over(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings with changes laid over them; only what is given changes.

    A mapping with a `name` and a `config`, as of an optimiser, replaces one of another name whole, because the
    arguments of one are not those of another. Lists are replaced.

    Args:
        base: Values below. Not changed.
        changes: Values above. Not changed.
    """
    differs = "name" in base and changes.get("name", base["name"]) != base["name"]
    if differs and ("config" in base or "config" in changes):
        return dict(changes)
    merged = dict(base)
    for key, value in changes.items():
        below = base.get(key)
        merged[key] = laid_over(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged
