"""From a model directory of PhysicsML (base model, graph scalars) to a model of ours.

The layout is that of PhysicsML 0.6: `model_config.json`, `featurisation_metadata.json` and a checkpoint of tensors. Its
maps are normalised as ours are, 1/√fan-in, so that weights carry over as they are; only activations have a constant
of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import torch

from macekit.config import DatasetFacts, ModelConfig
from macekit.errors import ConfigError, ModelFileError
from macekit.interop.mace_torch.archive import read_archive
from macekit.interop.mace_torch.projection import block_diagonal, project_paths
from macekit.interop.mace_torch.tree import Array
from macekit.kernels.structure import ContractionStructure
from macekit.model.activation import ACTIVATIONS
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.o3 import parse_hidden_irreps, parse_scalar_irreps

CONFIG, FEATURES = "model_config.json", "featurisation_metadata.json"
CHECKPOINT = Path("model_artefacts") / "module_checkpoint.ckpt"
E3NN_SILU = 1.6791767923989418
"""e3nn's normalisation of SiLU, a mean over a million samples of a fixed seed."""
COPIED = (
    "num_bessel", "num_polynomial_cutoff", "max_ell", "num_interactions", "hidden_irreps", "mlp_irreps", "correlation",
    "compute_forces",
)  # fmt: skip
TOLERANCE, NO_ROUNDING = 2e-6, 1e-12


def read_physicsml(
    directory: str | os.PathLike[str], dtype: torch.dtype = torch.float64
) -> tuple[Mace, dict[str, Any]]:
    """Read a model exactly; energies stay in the unit of its training labels.

    Args:
        directory: Of a `mace_model` with graph scalars, without atom and bond features.
        dtype: Precision of the weights; float64 keeps every digit.

    Returns:
        The model and its provenance.

    Raises:
        ModelFileError: If a file is missing or damaged, or the model has a feature that is not read; it is named.
    """
    folder = Path(directory)
    try:
        description = _json(folder / CONFIG)
        name, values = str(description["name"]), description["config"]
        tensors = _tensors(folder / CHECKPOINT)
        _refuse_unknown(folder, name, values, tensors)
        facts, order = _facts(values, _features(_json(folder / FEATURES)), tensors)
        weights = _Weights(values, tensors, order).read()
        config = _config(values, tensors, weights)
        model = build_model(config.name, config, facts, dtype=torch.float64)
        expected = model.state_dict()
        if differing := sorted(expected.keys() ^ weights.keys()):
            raise ModelFileError(f"{folder}: cannot be represented: {', '.join(differing)}")
        model.load_state_dict({key: torch.as_tensor(np.ascontiguousarray(value)) for key, value in weights.items()})
    except ConfigError as error:
        raise ModelFileError(f"{folder}: cannot be represented: {error.message}") from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"{folder}: damaged, or of a version that is not read: {error!r}") from None
    digest = hashlib.sha256((folder / CHECKPOINT).read_bytes()).hexdigest()
    provenance = {"converted_from": "PhysicsML", "file": folder.name, "sha256": digest, "model_class": name,
                  "units": "those of the training labels", "head": "Default"}  # fmt: skip
    return model.to(dtype), provenance


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelFileError(f"{path}: cannot be read: {error}") from None


def _tensors(path: Path) -> dict[str, Array]:
    found = read_archive(path)
    state = found.get("state_dict", found) if isinstance(found, dict) else None
    if not isinstance(state, dict):
        raise ModelFileError(f"{path}: expected a state dictionary")
    return {str(key): np.asarray(value, dtype=np.float64) for key, value in state.items()}


def _refuse_unknown(folder: Path, name: str, values: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
    known = ("mace.", "graph_scalars_head.")
    if foreign := sorted({key.partition(".")[0] for key in tensors if not key.startswith(known)}):
        raise ModelFileError(f"{folder}: {name} with {', '.join(foreign)} is not read; expected a base model's scalars")
    if values.get("num_edge_feats", 0):
        raise ModelFileError(f"{folder}: bond features (num_edge_feats={values['num_edge_feats']}) are not read")


def _features(metadata: Any) -> dict[str, Any]:
    for column in metadata["config"]:
        for representation in column["representations"]:
            if "atomic_number_mapping" in representation["config"]:
                return dict(representation["config"])
    raise ModelFileError(f"{FEATURES}: no atomic_number_mapping in it")


def _facts(
    values: Mapping[str, Any], features: Mapping[str, Any], tensors: Mapping[str, Array]
) -> tuple[DatasetFacts, list[int]]:
    """Facts, and the positions in the checkpoint of elements ascending in atomic number."""
    mapping = {int(number): int(position) for number, position in features["atomic_number_mapping"].items()}
    if len(mapping) != values["num_node_feats"]:
        raise ModelFileError(f"atom features (num_node_feats={values['num_node_feats']}) are not read")
    energies = {int(number): energy for number, energy in (features.get("atomic_energies") or {}).items()}
    if charged := [number for number, energy in energies.items() if isinstance(energy, dict)]:
        raise ModelFileError(f"self energies by formal charge (atomic numbers {charged}) are not read")
    elements = sorted(mapping)
    facts = DatasetFacts.from_dict(
        {
            "elements": elements,
            "cutoff": values["datamodule"]["cut_off"],
            "avg_num_neighbours": values.get("avg_num_neighbours") or 1.0,
            "targets": {"y_graph_scalars": ["energy"], "y_node_vector": "forces" if values["compute_forces"] else None},
            "reference_energies": {"energy": [float(energies.get(number, 0.0)) for number in elements]},
            "scale": {"energy": float(tensors["graph_scalars_head.scale_shift.scale"])},
            "shift": {"energy": float(tensors["graph_scalars_head.scale_shift.shift"])},
        },
        "facts",
    )
    return facts, [mapping[number] for number in elements]


def _config(values: Mapping[str, Any], tensors: Mapping[str, Array], weights: Mapping[str, Array]) -> ModelConfig:
    frequencies = tensors["mace.radial_embedding.bessel_fn.bessel_weights"].ravel()
    usual = np.arange(1, len(frequencies) + 1) * (pi / values["datamodule"]["cut_off"])
    is_usual = np.allclose(frequencies, usual, rtol=1e-15, atol=0.0)
    names = [f"backbone.layers.{i}.product.rounding_basis" for i in range(values["num_interactions"])]
    rounding = [weights[name].shape[1] if name in weights else 0 for name in names]
    chosen = {name: values[name] for name in COPIED}
    return ModelConfig.from_dict(
        chosen
        | {
            "radial_constants": {} if is_usual else {"bessel": frequencies.tolist()},
            "coupling_rounding": rounding if any(rounding) else [],
            "couplings": "float32" if any("_w3j_" in name for name in tensors) else "exact",
        },
        "config",
    )


class _Weights:
    """Weights of one checkpoint by the names of our parameters."""

    def __init__(self, values: Mapping[str, Any], tensors: Mapping[str, Array], order: list[int]) -> None:
        self.values, self.tensors, self.order = values, tensors, order
        self.channels, self.hidden = parse_hidden_irreps(values["hidden_irreps"])

    def read(self) -> dict[str, Array]:
        shape = (len(self.order), self.channels)
        weights = {"backbone.embedding": self.tensors["mace.node_embedding.weight"].reshape(shape)[self.order]}
        layers = self.values["num_interactions"]
        degrees_in: tuple[int, ...] = (0,)
        for i in range(layers):
            degrees_out = (0,) if i == layers - 1 else self.hidden
            found = self._layer(i, degrees_in, degrees_out)
            weights |= {f"backbone.layers.{i}.{name}": value for name, value in found.items()}
            degrees_in = degrees_out
        return weights | self._readouts(layers)

    def _layer(self, i: int, degrees_in: tuple[int, ...], degrees_out: tuple[int, ...]) -> dict[str, Array]:
        block, ratio = f"mace.interactions.{i}", E3NN_SILU / ACTIVATIONS["silu"].norm
        atomic = tuple(range(self.values["max_ell"] + 1))
        weights = self._split("interaction.linear_up", f"{block}.linear_node_feats.weight", degrees_in)
        layer = 0
        while (key := f"{block}.net_R_channels.layer{layer}.weight") in self.tensors:
            weights[f"interaction.radial.weights.{layer}"] = self.tensors[key] * (ratio if layer else 1.0)
            layer += 1
        last = f"interaction.radial.weights.{layer - 1}"
        couplings = self._couplings(degrees_in)
        columns = weights[last].reshape(len(weights[last]), len(couplings), -1)
        ours = sorted(range(len(couplings)), key=lambda path: couplings[path][2])  # stable: then by input and harmonics
        weights[last] = columns[:, ours].reshape(weights[last].shape)
        paths = {l: sum(l_out == l for _, _, l_out in couplings) for l in atomic}
        weights |= self._split("interaction.linear", f"{block}.linear.weight", atomic, paths)
        if f"{block}.mix_layer.weight" in self.tensors:
            weights |= self._by_element("interaction.mix", f"{block}.mix_layer.weight", atomic)
        update = f"mace.node_updates.{i}"
        weights |= self._split("product.linear", f"{update}.linear.weight", degrees_out)
        if (key := f"{update}.residual_connection_layer.weight") in self.tensors:
            shared = tuple(l for l in degrees_out if l in degrees_in)
            weights |= self._by_element("residual", key, shared)
        return weights | self._product(i, degrees_out)

    def _couplings(self, degrees_in: tuple[int, ...]) -> list[tuple[int, int, int]]:
        """Paths of the convolution in PhysicsML's order: by input, harmonics, output; ours go by output first."""
        max_ell = self.values["max_ell"]
        return [
            (l_in, l_sh, l_out)
            for l_in in degrees_in
            for l_sh in range(max_ell + 1)
            for l_out in range(abs(l_in - l_sh), min(l_in + l_sh, max_ell) + 1)
            if (l_in + l_sh + l_out) % 2 == 0
        ]

    def _split(
        self, ours: str, theirs: str, degrees: tuple[int, ...], counts: Mapping[int, int] | None = None
    ) -> dict[str, Array]:
        """Matrices of all degrees, one after another in the checkpoint."""
        flat, start, found = self.tensors[theirs].ravel(), 0, {}
        for l in degrees:
            rows = self.channels * (counts[l] if counts else 1)
            found[f"{ours}.weights.{l}"] = flat[start : start + rows * self.channels].reshape(rows, self.channels)
            start += rows * self.channels
        if start != len(flat):
            raise ModelFileError(f"{theirs}: {len(flat)} weights, expected {start}")
        return found

    def _by_element(self, ours: str, theirs: str, degrees: tuple[int, ...]) -> dict[str, Array]:
        shape = (len(degrees), self.channels, len(self.order), self.channels)
        matrices = self.tensors[theirs].reshape(shape).transpose(0, 2, 1, 3)
        return {f"{ours}.weights.{l}": matrices[n][self.order] for n, l in enumerate(degrees)}

    def _product(self, i: int, degrees: tuple[int, ...]) -> dict[str, Array]:
        max_ell, correlation = self.values["max_ell"], self.values["correlation"]
        key = ContractionStructure.key(max_ell, degrees, correlation)
        parts, bases, extra = [], [], []
        for product in ContractionStructure.from_key(key).products:
            prefix = f"mace.messages.{i}.symmetric_contractions.contractions.{degrees.index(product.degree)}"
            name = "weights_max" if product.order == correlation else f"weights.{correlation - 1 - product.order}"
            weight, tensor = self.tensors[f"{prefix}.{name}"], self.tensors[f"{prefix}.U_matrices.{product.order}"]
            found = project_paths(tensor, product, (max_ell + 1) ** 2, TOLERANCE, prefix)
            weight = weight[self.order]
            parts.append(np.einsum("pf,zpk->zfk", found.members, weight))
            rounded = np.abs(found.rounding).max(axis=0, initial=0.0) > NO_ROUNDING * np.abs(tensor).max()
            bases.append(found.rounding[:, rounded])
            extra.append(weight[:, rounded])
        weights = {"product.weights": np.concatenate(parts, axis=1)}
        if any(basis.shape[1] for basis in bases):
            weights["product.rounding_basis"] = block_diagonal(bases)
            weights["product.rounding_weights"] = np.concatenate(extra, axis=1)
        return weights

    def _readouts(self, layers: int) -> dict[str, Array]:
        width, found = parse_scalar_irreps(self.values["mlp_irreps"]), {}
        for i in range(layers - 1):
            column = self.tensors[f"graph_scalars_head.readouts.{i}.weight"].reshape(self.channels, -1)
            found[f"{i}.weight"] = column
        last = f"graph_scalars_head.readouts.{layers - 1}"
        found[f"{layers - 1}.linear_1.weight"] = self.tensors[f"{last}.linear_1.weight"].reshape(self.channels, width)
        second = self.tensors[f"{last}.linear_2.weight"].reshape(width, -1)
        found[f"{layers - 1}.linear_2.weight"] = second * (E3NN_SILU / ACTIVATIONS["silu"].norm)
        return {f"heads.graph_scalars.readouts.readouts.{name}": value for name, value in found.items()}
