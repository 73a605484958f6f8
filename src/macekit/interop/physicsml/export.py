"""From a model of ours to a model directory of PhysicsML: exactly, or the name of what its base model does not have."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from macekit.config import DatasetFacts, ModelConfig
from macekit.config.model import VARIANTS
from macekit.errors import ModelFileError
from macekit.interop.mace_torch.tree import Array
from macekit.interop.physicsml.atoms import CATEGORIES
from macekit.interop.physicsml.directory import CHECKPOINT, FEATURES, FEATURISER, MODEL
from macekit.interop.physicsml.export_weights import BACKBONE, BackboneWriter, readouts
from macekit.interop.torch_file import checkpoint
from macekit.model.build import scale_and_shift
from macekit.model.mace import Mace
from macekit.o3 import parse_hidden_irreps, parse_scalar_irreps

VERSION = "0.6.0"
"""Of the PhysicsML that these directories are for."""
NAME = next(name for name, differences in VARIANTS.items() if not differences)
RADIAL_MLP = [64, 64, 64]
EXPECTED: dict[str, tuple[Any, ...]] = {
    "tuner": ("none",),
    "uncertainty": ("none",),
    "interaction_first": ("agnostic",),
    "interaction": ("agnostic_residual",),
    "edge_irreps": (None,),
    "radial_basis": ("bessel",),
    "distance_transform": ("none",),
    "envelope": ("basis",),
    "pair_repulsion": ("none",),
    "mlp_kind": ("plain",),
    "mlp_activation": ("silu",),
    "read_layers": ("all",),
    "radial_mlp": (RADIAL_MLP,),
    "compatibility": ("none",),
}
"""Choices with a counterpart in PhysicsML's base model."""
COLUMNS = ("physicsml_total_atomic_energy", "physicsml_atom_idxs", "physicsml_atom_numbers", "physicsml_coordinates")


def write_physicsml(model: Mace, directory: str | os.PathLike[str]) -> list[str]:
    """Write a model as a directory that PhysicsML 0.6 loads, with the same predictions.

    Args:
        model: A `mace_model` without tuners; its vector outputs, if any, come from PhysicsML.
        directory: A new directory.

    Returns:
        What differs without changing predictions, for people.

    Raises:
        ModelFileError: If the model has something that PhysicsML's base model does not have, which the message names,
            or the directory exists or cannot be written.
    """
    target = Path(directory)
    if target.exists():
        raise ModelFileError(f"{target}: exists; expected a new directory for the model of PhysicsML")
    _refuse(model)
    values = _architecture(model.config, model.facts)
    name = np.float64 if str(model.dtype) == "torch.float64" else np.float32
    content = {key: tensor.astype(name) for key, tensor in _tensors(model, values).items()}
    files = {
        MODEL: _json({"name": NAME, "tag": NAME, "version": VERSION, "config": values | _sections(model)}),
        FEATURISER: _json(_featuriser(model.facts)),
        CHECKPOINT: checkpoint(content),
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))
        try:
            for file, text in files.items():
                (temporary / file).parent.mkdir(exist_ok=True)
                (temporary / file).write_bytes(text)
            temporary.chmod(0o755)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ModelFileError(f"{target}: cannot write the model: {error.strerror or error}") from None
    return _notes(model)


def _refuse(model: Mace) -> None:
    """Name what PhysicsML's base model does not have."""
    config, facts, targets = model.config, model.facts, model.facts.targets
    for field, allowed in EXPECTED.items():
        if (found := getattr(config, field)) not in allowed:
            expected = " or ".join(map(str, allowed))
            raise ModelFileError(f"to PhysicsML: {field}: {found} cannot be represented; expected {expected}")
    if len(facts.heads) > 1:
        raise ModelFileError(
            f"to PhysicsML: {len(facts.heads)} heads ({', '.join(facts.heads)}) cannot be represented",
            "keep one with --head",
        )
    vector = None if config.compute_forces else targets.y_node_vector
    for key, target in (("y_graph_vector", targets.y_graph_vector), ("y_node_vector", vector)):
        if target is not None:
            raise ModelFileError(
                f"to PhysicsML: {key}: '{target}' is read from the vectors of the last layer, which PhysicsML's "
                "vector heads do not see, and cannot be represented"
            )
    if facts.num_edge_features:
        raise ModelFileError("to PhysicsML: bond features under the envelope cannot be represented")
    if config.compute_forces and len(targets.y_graph_scalars) > 1:
        raise ModelFileError(
            f"to PhysicsML: forces of '{targets.energy}' alone cannot be represented: PhysicsML's belong to the sum of "
            f"{', '.join(targets.y_graph_scalars)}"
        )
    for name, kinds in facts.node_features.items():
        if kinds is None or list(kinds) != CATEGORIES.get(name):
            raise ModelFileError(
                f"to PhysicsML: the atom feature '{name}' cannot be represented; there are {', '.join(CATEGORIES)}"
            )
    if list(facts.node_features) != sorted(facts.node_features):
        raise ModelFileError("to PhysicsML: atom features in another than alphabetical order cannot be represented")
    energies = [tuple(facts.reference_energies.get(name, ())) for name in targets.y_graph_scalars]
    if len(set(energies)) > 1:
        raise ModelFileError(
            "to PhysicsML: reference energies that differ between graph scalars cannot be represented: "
            f"{', '.join(targets.y_graph_scalars)}"
        )


def _architecture(config: ModelConfig, facts: DatasetFacts) -> dict[str, Any]:
    """The fields of PhysicsML's configuration that describe the model."""
    channels, degrees = parse_hidden_irreps(config.hidden_irreps)
    average = facts.avg_num_neighbours if config.avg_num_neighbours == "auto" else config.avg_num_neighbours
    names = facts.targets.y_graph_scalars or facts.targets.y_node_scalars
    scale, shift = scale_and_shift(config, facts, names[0]) if names else (1.0, 0.0)
    return {
        "num_node_feats": facts.num_node_features,
        "num_edge_feats": 0,
        "num_bessel": config.num_bessel,
        "num_polynomial_cutoff": config.num_polynomial_cutoff,
        "max_ell": config.max_ell,
        "num_interactions": config.num_interactions,
        "hidden_irreps": " + ".join(f"{channels}x{l}{'eo'[l % 2]}" for l in degrees),
        "mlp_irreps": f"{parse_scalar_irreps(config.mlp_irreps)}x0e",
        "avg_num_neighbours": average or 1.0,
        "correlation": config.correlation,
        "scaling_mean": shift,
        "scaling_std": scale,
        "compute_forces": config.compute_forces,
    }


def _sections(model: Mace) -> dict[str, Any]:
    """Columns, targets and precision."""
    targets, facts = model.facts.targets, model.facts
    columns = [*COLUMNS, "physicsml_atom_features"] if facts.node_features else list(COLUMNS)
    forces = targets.y_node_vector if model.config.compute_forces else None
    labels = [*targets.y_graph_scalars, *targets.y_node_scalars, *([forces] if forces else [])]
    return {
        "x_features": columns,
        "y_features": labels,
        "trainer": {"precision": 64 if str(model.dtype) == "torch.float64" else 32},
        "datamodule": {
            "num_elements": len(facts.elements),
            "cut_off": facts.cutoff,
            "y_graph_scalars": targets.y_graph_scalars or None,
            "y_node_scalars": targets.y_node_scalars or None,
            "y_node_vector": forces,
        },
    }


def _featuriser(facts: DatasetFacts) -> dict[str, Any]:
    """The only place that names the elements and their energies."""
    zeros = [0.0] * len(facts.elements)
    energies = next((facts.reference_energies.get(name, zeros) for name in facts.targets.y_graph_scalars), zeros)
    config: dict[str, Any] = {
        "atomic_number_mapping": {str(z): index for index, z in enumerate(facts.elements)},
        "atomic_energies": {str(z): energy for z, energy in zip(facts.elements, energies, strict=True)},
        "backend": "rdkit",
    }
    if facts.node_features:
        config |= {"atom_features": list(facts.node_features), "one_hot_encoded": True}
    representation = {"name": FEATURES, "config": config, "presets": {}, "as": "{feature_name}"}
    return {"version": 1, "config": [{"column": "mol", "representations": [representation]}]}


def _tensors(model: Mace, values: Mapping[str, Any]) -> dict[str, Array]:
    config, facts = model.config, model.facts
    channels, degrees = parse_hidden_irreps(config.hidden_irreps)
    weights = {name: value.detach().double().cpu().numpy() for name, value in model.state_dict().items()}
    writer = BackboneWriter(
        weights,
        hidden=degrees,
        channels=channels,
        max_ell=config.max_ell,
        correlation=config.correlation,
        num_layers=config.num_interactions,
        rescaled=sqrt(facts.num_node_features / (config.node_normalisation or facts.num_node_features)),
    )
    frequencies = config.radial_constants.get("bessel") or [
        n * math.pi / facts.cutoff for n in range(1, config.num_bessel + 1)
    ]
    found = {f"{BACKBONE}.{name}": tensor for name, tensor in writer.tensors().items()}
    found[f"{BACKBONE}.radial_embedding.bessel_fn.bessel_weights"] = np.array(frequencies)
    for ours, names in (
        ("graph_scalars", facts.targets.y_graph_scalars),
        ("node_scalars", facts.targets.y_node_scalars),
    ):
        if names:
            start = f"heads.{ours}."
            own = {name.removeprefix(start): value for name, value in weights.items() if name.startswith(start)}
            found |= _head(own, f"{ours}_head", config, facts, names)
    return found


def _head(
    weights: dict[str, Array], head: str, config: ModelConfig, facts: DatasetFacts, names: Sequence[str]
) -> dict[str, Array]:
    """A scalar head, which has one factor and one constant for all columns."""
    scales, shifts = zip(*(scale_and_shift(config, facts, name) for name in names), strict=True)
    if len(set(shifts)) > 1:
        raise ModelFileError(
            f"to PhysicsML: constants per atom that differ between {', '.join(names)} cannot be represented"
        )
    own = {name.removeprefix("readouts."): value for name, value in weights.items()}
    relative = [scale / scales[0] for scale in scales]
    found = readouts(own, head, relative, parse_scalar_irreps(config.mlp_irreps))
    return found | {
        f"{head}.scale_shift.scale": np.array(scales[0]),
        f"{head}.scale_shift.shift": np.array(shifts[0]),
    }


def _notes(model: Mace) -> list[str]:
    """What is left out."""
    found = []
    if model.facts.targets.stress is not None:
        found.append(f"the stress ('{model.facts.targets.stress}') is not among PhysicsML's outputs")
    if any(model.config.coupling_rounding) or model.config.couplings == "float32":
        found.append("the couplings are exact, not those of the float32 file: predictions change by rounding")
    return found


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2, ensure_ascii=False, sort_keys=True) + "\n").encode()
