"""Run files: YAML and dotted overrides to a `TrainingRun`, and back.

Relative data paths (`data.train`, `data.validation`, `data.test`) and the model that fine-tuning starts from are
relative to the folder of the YAML file, also when an override gives them; with a mapping instead of a file they are
relative to the current directory. The run directory is relative to the current directory in every case.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from macekit.config.base import Config, nested_config
from macekit.config.data import SourceConfig
from macekit.config.preset_files import over_preset
from macekit.config.run import TrainingRun
from macekit.config.yaml_text import parse_yaml
from macekit.errors import ConfigError, did_you_mean

Overrides = Mapping[str, Any] | Sequence[str]


def load_run(
    source: str | os.PathLike[str] | Mapping[str, Any] | TrainingRun, overrides: Overrides = ()
) -> TrainingRun:
    """A run from a YAML file, a mapping of the same shape, or another run.

    Args:
        source: Name of a YAML file, the mapping that such a file holds, or a run to change.
        overrides: Changes as `{"training.max_epochs": 10}` or `["training.max_epochs=10"]`, applied in order,
            whole sections before their parts. Text after `=` is read as YAML. Items of lists go by index.

    Returns:
        The checked run, data paths resolved.

    Raises:
        ConfigError: Names the file, the dotted key, the value and the remedy.
    """
    where, folder = "", Path()
    if isinstance(source, TrainingRun):
        values = source.model_dump(mode="json", exclude_unset=True)
    elif isinstance(source, Mapping):
        values = copy.deepcopy(dict(source))
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        where, folder = str(path), path.parent
        values = read_yaml(path)
    else:
        raise ConfigError(f"expected a run file, a mapping or a TrainingRun, got {type(source).__name__}")
    pairs = _pairs(overrides)
    values |= {key: value for key, value in pairs if key in ("preset", "finetune")}
    values = over_preset(values, where)
    for key, value in sorted(pairs, key=lambda pair: pair[0].count(".")):
        _override(values, key, value)
    run = TrainingRun.from_dict(values, where)
    return _with_resolved_paths(run, folder)


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Raises:
        ConfigError: If the file cannot be read, is not YAML, repeats a key, or holds no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        folder = path.parent
        near = [item.name for item in folder.iterdir()] if folder.is_dir() else []
        raise ConfigError(f"{path}: no such file", did_you_mean(path.name, near)) from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: expected a YAML file, this is a directory") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text, byte {error.start} is not") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    values = parse_yaml(text, str(path))
    if values is None:
        raise ConfigError(f"{path}: the file is empty; expected sections {', '.join(TrainingRun.model_fields)}")
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(values).__name__}")
    return values


def dump_run(run: TrainingRun) -> str:
    """The run as YAML with every default written out; `load_run` reads it back to an equal run."""
    return yaml.safe_dump(run.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def _pairs(overrides: Overrides) -> list[tuple[str, Any]]:
    if isinstance(overrides, Mapping):
        return list(overrides.items())
    if isinstance(overrides, str):
        overrides = [overrides]
    pairs = []
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"override '{text}': expected key=value, such as training.max_epochs=10")
        pairs.append((key.strip(), parse_yaml(value, f"override {key.strip()}")))
    return pairs


def _override(values: dict[str, Any], dotted: str, value: Any) -> None:
    """Set one value in the nested mappings and lists of a run file, in place."""
    where = f"override {dotted}"
    steps = dotted.split(".")
    node: Any = values
    owner: type[Config] | None = TrainingRun
    for depth, word in enumerate(steps):
        step = word
        last = depth == len(steps) - 1
        path = ".".join(steps[:depth])
        if isinstance(node, list):
            index = _index(step, node, where, path)
            if last:
                node[index] = value
            node = node[index]
            continue
        if not isinstance(node, dict):
            raise ConfigError(f"{where}: {path} is {node!r}, which has no part '{step}'", f"give {path} as a whole")
        step = _canonical(owner, step, node)
        if owner is not None and step not in owner.model_fields:
            known = ", ".join(owner.model_fields)
            raise ConfigError(
                f"{where}: unknown key ({owner.__name__} has: {known})",
                did_you_mean(step, owner.model_fields),
            )
        if last:
            node[step] = value
            return
        if node.get(step) is None:
            node[step] = _default_value(owner, step, node)
        owner = nested_config(owner.model_fields[step].annotation) if owner is not None else None
        node = node[step]


def _canonical(owner: type[Config] | None, step: str, node: dict[str, Any]) -> str:
    """The field that a step names, by its own name also in the file's mapping, which may have the short one."""
    if owner is None:
        return step
    for short, name in owner.synonyms.items():
        if short in node:
            node[name] = node.pop(short)
    return owner.synonyms.get(step, step)


def _index(step: str, items: list[Any], where: str, path: str) -> int:
    if step.isdigit() and int(step) < len(items):
        return int(step)
    raise ConfigError(
        f"{where}: {path} is a list of {len(items)}; expected an index from 0 to {len(items) - 1}, got '{step}'"
    )


def _default_value(owner: type[Config] | None, field: str, siblings: Mapping[str, Any]) -> Any:
    """What an override of a part changes where the file says nothing.

    That is the default mapping, or an empty one where the default belongs to another `name`.
    """
    if owner is None:
        return {}
    fields = owner.model_fields
    default = fields[field].get_default(call_default_factory=True)
    is_other = "name" in fields and siblings.get("name", fields["name"].default) != fields["name"].default
    if default is None or is_other or isinstance(default, Config | list) or fields[field].is_required():
        return {}
    return dict(default) if isinstance(default, dict) else default


def _with_resolved_paths(run: TrainingRun, folder: Path) -> TrainingRun:
    def resolved(items: Sequence[str | SourceConfig]) -> list[str | SourceConfig]:
        return [
            path(item) if isinstance(item, str) else item.model_copy(update={"file": path(item.file)}) for item in items
        ]

    def path(name: str) -> str:
        return str(folder / Path(name).expanduser())

    data = run.data
    update = {
        "train": resolved(data.train),
        "validation": data.validation if isinstance(data.validation, float) else resolved(data.validation),
        "test": {name: resolved(files) for name, files in data.test.items()},
    }
    changes: dict[str, Any] = {"data": data.model_copy(update=update)}
    if run.finetune is not None:
        paths: dict[str, Any] = {"pre_trained_model_path": path(run.finetune.pre_trained_model_path)}
        if (replay := run.finetune.replay) is not None:
            paths["replay"] = replay.model_copy(update={"files": [path(name) for name in replay.files]})
        changes["finetune"] = run.finetune.model_copy(update=paths)
    return run.model_copy(update=changes)
