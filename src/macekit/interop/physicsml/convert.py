"""From a model directory of PhysicsML to a model of ours."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.data import chemical_symbols

from macekit.config import DatasetFacts, ModelConfig
from macekit.errors import ConfigError, ModelFileError
from macekit.interop.mace_torch.convert import load_weights
from macekit.interop.physicsml.atoms import Atoms, atoms_of
from macekit.interop.physicsml.directory import Directory, read_directory
from macekit.interop.physicsml.fields import checked, model_choices, names_of, tuner_of
from macekit.interop.physicsml.heads import compatibility_of, head_weights, scales_and_shifts
from macekit.interop.physicsml.tuners import check_order, tuner_weights
from macekit.interop.physicsml.weights import BackboneReader, Tensors, Weights
from macekit.model.build import build_model
from macekit.model.mace import Mace
from macekit.o3 import Irreps, parse_hidden_irreps
from macekit.units import ENERGY_IN_EV, factor

BACKBONES = {"none": "mace", "ssf": "ssf_mace", "adapter": "adapter_mace"}
"""Names of backbones in checkpoints, by tuner."""
RADIAL_MLP = [64, 64, 64]
BONDS = "bond_features"


class _Source(NamedTuple):
    """A directory with what has been understood of it."""

    directory: Directory
    values: dict[str, Any]
    targets: dict[str, Any]
    datamodule: dict[str, Any]
    atoms: Atoms
    rows: list[int]
    """Positions of the chosen elements in the file, ascending in atomic number."""
    notes: list[str]


def read_physicsml(
    directory: str | os.PathLike[str],
    *,
    elements: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float64,
    energy_unit: str | None = None,
) -> tuple[Mace, dict[str, Any]]:
    """Read a model exactly, and without executing anything in the directory.

    Args:
        directory: A model directory that PhysicsML wrote.
        elements: Atomic numbers to keep; None: all. Predictions for them do not change.
        dtype: Precision of the weights; float64 keeps every digit of any file.
        energy_unit: Unit of its energies, converted to eV; None: numbers are kept, in the unit of its labels.

    Returns:
        The model and its provenance, with notes on what differs.

    Raises:
        ModelFileError: If a file cannot be read, asks for anything but data, or has a feature or a field that
            cannot be represented.
    """
    try:
        source = _understood(read_directory(directory), elements)
        tensors = Tensors(source.directory.tensors)
        facts, config, weights = _converted(source, tensors, energy_unit)
        model = build_model(config.name, config, facts, dtype=torch.float64)
        load_weights(model, weights)
        _check_all_used(tensors, config)
    except ModelFileError as error:
        message = error.message if error.message.startswith(str(directory)) else f"{directory}: {error.message}"
        raise ModelFileError(message, error.hint) from None
    except ConfigError as error:
        raise ModelFileError(f"{directory}: cannot be represented: {error.message}", error.hint) from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{directory}: damaged, or of a version that is not read: {error!r}") from None
    unit = "eV" if energy_unit else "the unit of the labels"
    provenance = {
        "converted_from": "PhysicsML",
        "version": source.directory.version,
        "sha256": source.directory.sha256,
        "model_class": source.directory.name,
        "elements_in_file": source.atoms.elements,
        "dtype_in_file": source.directory.dtype,
        "units": {"energy": unit, "stress": "eV/angstrom^3" if energy_unit else f"{unit} per angstrom^3"},
        "notes": source.notes,
    }
    return model.to(dtype), provenance


def _understood(directory: Directory, elements: Sequence[int] | None) -> _Source:
    found = checked(directory.name, directory.config, "model_config.json")
    values, targets, datamodule = found["model"], found["targets"], found["datamodule"]
    columns = directory.config.get("x_features") or []

    def has(field: str, default: str) -> bool:
        return not columns or datamodule.get(field, default) in columns

    mapping = directory.featuriser.get("atomic_number_mapping")
    num_elements = datamodule.get("num_elements") or len(mapping or ()) or values["num_node_feats"]
    has_features = values["num_node_feats"] > num_elements
    atoms = atoms_of(
        directory.featuriser,
        num_elements,
        has("total_atomic_energy_col", "physicsml_total_atomic_energy"),
        has_features,
    )
    width = sum(1 if kinds is None else len(kinds) for kinds in atoms.features.values())
    if values["num_node_feats"] != num_elements + width:
        raise ModelFileError(
            f"num_node_feats: {values['num_node_feats']} given, but {num_elements} elements and {width} columns of "
            f"atom features ({', '.join(atoms.features) or 'none'})"
        )
    notes = list(atoms.notes)
    if datamodule.get("pbc") or datamodule.get("cell"):
        notes.append("datamodule.pbc and datamodule.cell are not part of the model: structures bring their own")
    if values["num_edge_feats"]:
        bonds = ", ".join(sorted(directory.featuriser.get("bond_features") or [])) or "unknown"
        notes.append(f"bond features are rows [i, j, ...] of info['{BONDS}'], one-hot columns of: {bonds}")
    for key in ("y_graph_scalars", "y_node_scalars"):
        named = names_of(targets[key])
        trained = [name for name in directory.config.get("y_features") or [] if name in named]
        if sorted(trained) == sorted(named) and trained != named:
            notes.append(
                f"{key}: named {', '.join(named)} as PhysicsML names its predictions, but it trains columns in the "
                f"order of y_features, {', '.join(trained)}: the names are probably exchanged"
            )
    return _Source(directory, values, targets, datamodule, atoms, _rows(atoms.elements, elements), notes)


def _rows(known: list[int], elements: Sequence[int] | None) -> list[int]:
    chosen = sorted(set(known if elements is None else elements) - {119})
    if missing := [number for number in chosen if number not in known]:
        raise ModelFileError(
            f"elements {', '.join(chemical_symbols[n] for n in missing)}: the model does not know them; it knows "
            f"{', '.join(chemical_symbols[n] for n in sorted(known) if n < len(chemical_symbols))}"
        )
    if not chosen:
        raise ModelFileError("elements: none given; expected at least one")
    return [known.index(number) for number in chosen]


def _converted(source: _Source, tensors: Tensors, energy_unit: str | None) -> tuple[DatasetFacts, ModelConfig, Weights]:
    values, name = source.values, source.directory.name
    channels, _ = parse_hidden_irreps(values["hidden_irreps"])
    hidden = [irrep.l for _, irrep in Irreps.parse(values["hidden_irreps"])]
    num_elements = len(source.atoms.elements)
    tuner = tuner_of(name)
    check_order(tuner, hidden)
    prefix = BACKBONES[tuner]
    rows = [*source.rows, *range(num_elements, values["num_node_feats"])]
    reader = BackboneReader(
        tensors,
        prefix,
        hidden=hidden,
        channels=channels,
        max_ell=values["max_ell"],
        correlation=values["correlation"],
        num_layers=values["num_interactions"],
        radial_widths=[values["num_bessel"] + values["num_edge_feats"], *RADIAL_MLP],
        num_features=values["num_node_feats"],
        rows=rows,
    )
    facts = _facts(source, tensors, energy_unit)
    weights = reader.read() | tuner_weights(tensors, tuner, prefix, reader, values)
    weights |= head_weights(tensors, values, facts, channels, hidden)
    names = [f"backbone.layers.{i}.product.rounding_basis" for i in range(values["num_interactions"])]
    rounding = [weights[key].shape[1] if key in weights else 0 for key in names]
    choices = model_choices(name, values) | {
        "radial_mlp": RADIAL_MLP,
        "radial_constants": _radial_constants(tensors, prefix, values["num_bessel"], facts.cutoff),
        "couplings": "float32" if tensors.rounds_couplings else "exact",
        "node_normalisation": values["num_node_feats"] if len(rows) < values["num_node_feats"] else None,
        "coupling_rounding": rounding if any(rounding) else [],
        "coupling_terms": "all" if reader.has_cancelling else "symmetric",
        "compatibility": compatibility_of(name, values, facts),
    }
    return facts, ModelConfig.from_dict(choices), weights


def _facts(source: _Source, tensors: Tensors, energy_unit: str | None) -> DatasetFacts:
    values, datamodule = source.values, source.datamodule
    scalars = names_of(source.targets["y_graph_scalars"])
    vector = source.targets["y_node_vector"]
    targets = {
        "y_graph_scalars": scalars,
        "y_graph_vector": source.targets["y_graph_vector"],
        "y_node_scalars": names_of(source.targets["y_node_scalars"]),
        "y_node_vector": vector or ("forces" if values["compute_forces"] else None),
    }
    energies = [source.atoms.energies[row] for row in source.rows]
    reference = dict.fromkeys(scalars, energies)
    scale, shift = scales_and_shifts(tensors, targets, values)
    if energy_unit is not None:
        if len(scalars) != 1:
            raise ModelFileError(
                f"an energy unit is given, but the model has {len(scalars)} graph scalars ({', '.join(scalars)}); "
                "units are converted for a single one",
                "leave the unit out: numbers are kept as they are",
            )
        in_ev = factor(energy_unit, ENERGY_IN_EV, "energy")
        (energy,) = scalars
        scale[energy], shift[energy] = scale[energy] * in_ev, shift[energy] * in_ev
        reference[energy] = [value * in_ev for value in energies]
    return DatasetFacts(
        elements=[source.atoms.elements[row] for row in source.rows],
        cutoff=datamodule.get("cut_off", 5.0),
        avg_num_neighbours=values["avg_num_neighbours"] or 1.0,
        targets=targets,
        reference_energies=reference,
        scale=scale,
        shift=shift,
        node_features=source.atoms.features,
        edge_features=BONDS if values["num_edge_feats"] else None,
        num_edge_features=values["num_edge_feats"],
    )


def _radial_constants(tensors: Tensors, prefix: str, num_bessel: int, cutoff: float) -> dict[str, list[float]]:
    """The frequencies of the file, where they differ from ours."""
    found = tensors.array(f"{prefix}.radial_embedding.bessel_fn.bessel_weights", num_bessel)
    usual = np.arange(1, num_bessel + 1) * (math.pi / cutoff)
    return {} if np.allclose(found, usual, rtol=1e-15, atol=0.0) else {"bessel": found.tolist()}


def _check_all_used(tensors: Tensors, config: ModelConfig) -> None:
    """Refuse a checkpoint with weights that mean something to PhysicsML and nothing here."""
    silent = () if config.num_interactions > 1 else (".messages.0.", ".node_updates.0.")
    if left := [name for name in tensors.unused() if not any(part in name for part in silent)]:
        raise ModelFileError(f"cannot be represented: weights left over in the checkpoint: {', '.join(left)}")
