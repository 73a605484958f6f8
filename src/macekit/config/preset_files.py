"""Presets: sections of a run file under a name, in the package. What a run file gives is laid over them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from macekit.config.merging import laid_over
from macekit.config.model import BACKBONE_FIELDS, HEAD_FIELDS
from macekit.config.yaml_text import parse_yaml
from macekit.errors import ConfigError, did_you_mean

ARCHITECTURE = (*BACKBONE_FIELDS, *HEAD_FIELDS)
FOLDER = Path(__file__).parent / "presets"


def preset_names() -> list[str]:
    """All presets: sizes first, then recipes."""
    sizes = ["small", "medium", "large"]
    return sizes + sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem not in sizes)


def preset_summary(name: str) -> str:
    """What a preset is for: the comment on its first line."""
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def preset_values(name: Any, where: str = "") -> dict[str, Any]:
    """The sections of a preset.

    Args:
        name: Of the preset.
        where: What asks, the start of the message.

    Raises:
        ConfigError: If there is no such preset; names the nearest.
    """
    names = preset_names()
    if name not in names:
        prefix = f"{where}: " if where else ""
        raise ConfigError(
            f"{prefix}preset: unknown preset {name!r}; known: {', '.join(names)}", did_you_mean(str(name), names)
        )
    path = FOLDER / f"{name}.yaml"
    values: dict[str, Any] = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    return values


def over_preset(values: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """The values of a run file laid over those of the preset that it names, if it names one.

    Where training starts from a trained model, the architecture is that model's, and the preset gives the rest.
    """
    name = values.get("preset")
    if name is None:
        return dict(values)
    below = preset_values(name, where)
    if values.get("finetune") is not None:
        below["model"] = {key: value for key, value in below["model"].items() if key not in ARCHITECTURE}
        below["data"] = {key: value for key, value in below["data"].items() if key != "cutoff"}
    return laid_over(below, values)
