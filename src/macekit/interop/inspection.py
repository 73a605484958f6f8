"""What is known of a model without evaluating it: for people and for programs."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ase.data import chemical_symbols

from macekit.config import DatasetFacts, ModelConfig
from macekit.errors import ModelFileError
from macekit.interop.mace_torch.archive import read_archive
from macekit.interop.mace_torch.description import describe
from macekit.interop.mace_torch.tree import Module
from macekit.interop.native import UNITS, WEIGHTS, read_config
from macekit.interop.physicsml.convert import read_physicsml
from macekit.interop.physicsml.directory import is_physicsml
from macekit.model.build import scale_and_shift

ARCHITECTURE = (
    "name", "num_interactions", "hidden_irreps", "max_ell", "correlation", "mlp_irreps", "radial_mlp", "num_bessel",
    "radial_basis", "num_polynomial_cutoff", "distance_transform", "envelope", "interaction_first", "interaction",
    "edge_irreps", "pair_repulsion", "mlp_kind", "mlp_activation", "vector_gate", "read_layers", "tuner", "uncertainty",
    "compatibility", "scalar_bias",
)  # fmt: skip
"""Choices that are shown."""


def model_summary(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Architecture, elements, heads, reference energies, parameters, units, provenance and checksum of a model.

    Args:
        path: A model directory of macekit or PhysicsML, or a model file of mace-torch; nothing in them is executed.

    Returns:
        Plain values, ready for JSON.

    Raises:
        ModelFileError: If it cannot be read.
    """
    if is_physicsml(path):
        return _of_physicsml(Path(path))
    return _of_file(Path(path)) if Path(path).is_file() else _of_directory(Path(path))


def _of_directory(directory: Path) -> dict[str, Any]:
    config = read_config(directory)
    facts = DatasetFacts.from_dict(config["facts"], f"{directory}: facts")
    choices = ModelConfig.from_dict(config["model"], f"{directory}: model")
    return {
        "format": f"macekit {config['schema_version']}",
        **_of_model(choices, facts),
        "parameters": _num_values(directory / WEIGHTS),
        "dtype": config["dtype"],
        "units": config["units"],
        "provenance": config["provenance"],
        "sha256": config["sha256"][WEIGHTS],
    }


def _of_physicsml(directory: Path) -> dict[str, Any]:
    model, provenance = read_physicsml(directory)
    return {
        "format": "PhysicsML",
        **_of_model(model.config, model.facts),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "dtype": provenance["dtype_in_file"],
        "units": {**UNITS, **provenance["units"]},
        "provenance": provenance,
        "sha256": provenance["sha256"],
    }


def _of_model(choices: ModelConfig, facts: DatasetFacts) -> dict[str, Any]:
    symbols = [chemical_symbols[number] for number in facts.elements]
    names = list(facts.heads) or ["default"]
    return {
        "architecture": {name: getattr(choices, name) for name in ARCHITECTURE},
        "elements": symbols,
        "cutoff": facts.cutoff,
        "avg_num_neighbours": facts.avg_num_neighbours,
        "predicts": _predicted(choices, facts),
        "heads": {
            name: {
                target: {
                    "reference_energies": dict(
                        zip(symbols, level.reference_energies.get(target, [0.0] * len(symbols)), strict=True)
                    ),
                    "scale": scale_and_shift(choices, level, target)[0],
                    "shift": scale_and_shift(choices, level, target)[1],
                }
                for target in facts.targets.y_graph_scalars
            }
            for name, level in zip(names, facts.levels(), strict=True)
        },
        "default_head": facts.default_head or (names[0] if len(names) == 1 else None),
    }


def _predicted(choices: ModelConfig, facts: DatasetFacts) -> list[str]:
    names = list(facts.targets.kinds())
    if facts.targets.energy is not None:
        names += [name for name in ("forces", "stress") if name not in names]
    if choices.uncertainty == "gaussian":
        names += [f"standard deviation of {name}" for name in facts.targets.y_graph_scalars]
    return names


def _num_values(path: Path) -> int:
    """Number of values in a safetensors file, from its header."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes = [entry["shape"] for name, entry in header.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, OverflowError, MemoryError) as error:
        raise ModelFileError(f"{path}: cannot be read: {error}") from None
    total = 0
    for shape in shapes:
        size = 1
        for n in shape:
            size *= int(n)
        total += size
    return total


def _of_file(file: Path) -> dict[str, Any]:
    root = read_archive(file)
    try:
        description = describe(Module(root, "model"))
    except ModelFileError as error:
        raise ModelFileError(f"{file}: {error.message}", error.hint) from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{file}: damaged, or of a version that is not read: {error!r}") from None
    values = description.as_dict()
    order = sorted(range(len(description.elements)), key=description.elements.__getitem__)
    symbols = [chemical_symbols[description.elements[row]] for row in order]
    shown = ("elements", "heads", "cutoff", "reference_energies", "scale", "shift", "num_parameters", "dtype")
    return {
        "format": "mace-torch",
        "architecture": {name: value for name, value in values.items() if name not in (*shown, "avg_num_neighbours")},
        "elements": symbols,
        "cutoff": description.cutoff,
        "avg_num_neighbours": description.avg_num_neighbours,
        "predicts": ["energy", "forces", "stress"] * description.predicts_energy
        + ["dipole"] * description.predicts_dipole,
        "heads": {
            head: {
                "energy": {
                    "reference_energies": {
                        symbol: description.reference_energies[head][row]
                        for symbol, row in zip(symbols, order, strict=True)
                    },
                    "scale": description.scale[head],
                    "shift": description.shift[head],
                }
            }
            if description.predicts_energy
            else {}
            for head in description.heads
        },
        "default_head": description.default_head,
        "parameters": description.num_parameters,
        "dtype": description.dtype,
        "units": UNITS,
        "provenance": {"file": file.name},
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
