"""From a `.model` file of mace-torch to a model of ours."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import chemical_symbols

from macekit.config import DatasetFacts, ModelConfig
from macekit.config.facts import LevelFacts
from macekit.errors import ConfigError, ModelFileError
from macekit.interop.mace_torch.archive import read_archive
from macekit.interop.mace_torch.description import Description, describe
from macekit.interop.mace_torch.root import model_of
from macekit.interop.mace_torch.tree import Module
from macekit.interop.mace_torch.weights import WeightReader, Weights
from macekit.model.build import build_model
from macekit.model.mace import Mace

ENERGY, FORCES, STRESS, DIPOLE = "energy", "forces", "stress", "dipole"


def read_mace_torch(
    file: str | os.PathLike[str],
    *,
    head: str | None = None,
    elements: Sequence[int] | None = None,
    dtype: torch.dtype = torch.float64,
) -> tuple[Mace, dict[str, Any]]:
    """Read a model exactly, and without executing anything in the file.

    Args:
        file: A whole-module file that mace-torch wrote, in 2022 or later.
        head: Level of theory to keep; None: all.
        elements: Atomic numbers to keep; None: all. Predictions for them do not change.
        dtype: Precision of the weights; float64 keeps every digit of any file.

    Returns:
        The model and its provenance.

    Raises:
        ModelFileError: If the file cannot be read, asks for anything but data, has a feature that cannot be
            represented, or lacks an element or the head.
    """
    try:
        root = model_of(read_archive(file))
        description = describe(root)
        names = description.heads_named(head)
        rows = _rows(description, elements)
        reader = WeightReader(root, description, rows, [description.heads.index(name) for name in names])
        weights = reader.read()
        config = _config(reader, names, _rounding(description, weights))
        model = build_model(config.name, config, _facts(description, names, rows), dtype=torch.float64)
        load_weights(model, weights)
    except ModelFileError as error:
        message = error.message if error.message.startswith(str(file)) else f"{file}: {error.message}"
        raise ModelFileError(message, error.hint) from None
    except ConfigError as error:
        raise ModelFileError(f"{file}: cannot be represented: {error.message}") from None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise ModelFileError(f"{file}: damaged, or of a version that is not read: {error!r}") from None
    provenance = {
        "converted_from": "mace-torch",
        "file": Path(file).name,
        "sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest(),
        "model_class": description.model_class,
        "heads": names,
        "heads_in_file": description.heads,
        "elements_in_file": description.elements,
        "dtype_in_file": description.dtype,
    }
    return model.to(dtype), provenance


def _rows(description: Description, elements: Sequence[int] | None) -> list[int]:
    """Positions in the file of the chosen elements, ascending in atomic number."""
    chosen = sorted(set(description.elements if elements is None else elements))
    if missing := [number for number in chosen if number not in description.elements]:
        raise ModelFileError(
            f"elements {', '.join(chemical_symbols[n] for n in missing)}: the model does not know them; it knows "
            f"{', '.join(chemical_symbols[n] for n in sorted(description.elements))}"
        )
    if not chosen:
        raise ModelFileError("elements: none given; expected at least one")
    return [description.elements.index(number) for number in chosen]


def _facts(description: Description, heads: Sequence[str], rows: Sequence[int]) -> DatasetFacts:
    _check_energies(description, heads, rows)
    levels = {
        head: LevelFacts(
            reference_energies={ENERGY: [description.reference_energies[head][row] for row in rows]},
            scale={ENERGY: description.scale[head]},
            shift={ENERGY: description.shift[head]},
        )
        for head in heads
    }
    defaults = [head for head in heads if head.lower() == "default"]
    several = {"heads": levels, "default_head": defaults[0] if defaults else None}
    single = {"heads": {} if defaults else dict.fromkeys(heads, LevelFacts()), **dict(levels[heads[0]])}
    return DatasetFacts(
        elements=[description.elements[row] for row in rows],
        cutoff=description.cutoff,
        avg_num_neighbours=description.avg_num_neighbours,
        targets={
            "y_graph_scalars": [ENERGY] if description.predicts_energy else [],
            "y_node_vector": FORCES if description.predicts_energy else None,
            "stress": STRESS if description.predicts_energy else None,
            "y_graph_vector": DIPOLE if description.predicts_dipole else None,
        },
        **(single if len(heads) == 1 else several),
    )


def _check_energies(description: Description, heads: Sequence[str], rows: Sequence[int]) -> None:
    """A head may have been trained without some of the elements."""
    for head in heads:
        energies = description.reference_energies[head]
        if missing := [description.elements[row] for row in rows if not math.isfinite(energies[row])]:
            symbols = ", ".join(chemical_symbols[number] for number in missing)
            raise ModelFileError(
                f"head '{head}': the reference energy of {symbols} is no number",
                "leave these elements out (--elements), or choose another head (--head)",
            )


def _rounding(description: Description, weights: Weights) -> list[int]:
    """Number of functions in every layer that hold the rounding of a file's couplings; none where all are exact."""
    names = [f"backbone.layers.{i}.product.rounding_basis" for i in range(len(description.interactions))]
    counts = [weights[name].shape[1] if name in weights else 0 for name in names]
    return counts if any(counts) else []


def _config(reader: WeightReader, heads: Sequence[str], rounding: list[int]) -> ModelConfig:
    model, description, rows = reader.model, reader.description, reader.rows
    layers, channels = len(description.interactions), description.channels
    sent = description.edge_irreps
    received = [f"{channels}x0e", *(_sized(channels, irreps) for irreps in description.hidden_irreps[:-1])]
    differs = [_ordered(s) != _ordered(r) for s, r in zip(sent, received, strict=True)]
    return ModelConfig.from_dict(
        {
            "num_bessel": description.num_basis,
            "num_polynomial_cutoff": description.cutoff_power,
            "max_ell": description.max_ell,
            "num_interactions": layers,
            "hidden_irreps": _sized(channels, description.hidden_irreps[0] if layers > 1 else "0e"),
            "mlp_irreps": f"{description.mlp_channels}x0e",
            "correlation": max(description.correlation),
            "compute_forces": description.predicts_energy,
            "vector_gate": description.vector_gate,
            "radial_mlp": description.radial_mlp,
            "interaction_first": description.interactions[0],
            "interaction": _same(description.interactions[1:], "interactions") or "agnostic_residual",
            "edge_irreps": sent[-1] if any(differs[1:]) else sent[0] if differs[0] else None,
            "edge_irreps_first": differs[0],
            "radial_basis": description.radial_basis,
            "distance_transform": description.distance_transform,
            "envelope": "basis" if description.applies_cutoff_to_basis else "messages",
            "pair_repulsion": description.pair_repulsion,
            "radial_constants": _radial_constants(model, description, heads, rows),
            "node_normalisation": len(description.elements) if len(rows) < len(description.elements) else None,
            "coupling_rounding": rounding,
            "coupling_terms": "all" if reader.has_cancelling else "symmetric",
            "couplings": "float32" if reader.rounds_couplings else "exact",
            "mlp_kind": "biased" if description.readouts[-1] == "NonLinearBiasReadoutBlock" else "plain",
            "mlp_activation": description.mlp_activation,
            "read_layers": "all" if len(description.readouts) == layers else "last",
        }
    )


def _radial_constants(
    model: Module, description: Description, heads: Sequence[str], rows: Sequence[int]
) -> dict[str, list[float]]:
    """The file's own constants, where they differ from ours or may differ between versions."""
    radial = model.child("radial_embedding")
    basis = radial.child("bessel_fn")
    constants: dict[str, list[float]] = {}
    numbers = [description.elements[row] for row in rows]
    if description.radial_basis == "bessel":
        frequencies = basis.tensor("bessel_weights").ravel()
        usual = np.arange(1, len(frequencies) + 1) * (math.pi / description.cutoff)
        if not np.allclose(frequencies, usual, rtol=1e-15, atol=0.0):
            constants["bessel"] = frequencies.tolist()
    elif description.radial_basis == "gaussian":
        centres = basis.tensor("gaussian_weights").ravel().tolist()
        width, usual_width = math.sqrt(-0.5 / basis.number("coeff")), description.cutoff / (len(centres) - 1)
        constants["gaussian"] = centres if math.isclose(width, usual_width, rel_tol=1e-15) else [*centres, width]
    if description.distance_transform != "none":
        transform = radial.child("distance_transform")
        names = {"agnesi": ("q", "p", "a"), "soft": ("alpha",)}[description.distance_transform]
        constants[description.distance_transform] = [transform.number(name) for name in names]
        constants["covalent_radii"] = transform.tensor("covalent_radii")[numbers].tolist()
    if description.pair_repulsion == "zbl":
        repulsion = model.child("pair_repulsion_fn")
        radii = repulsion.tensor("covalent_radii")[numbers].tolist()
        if constants.get("covalent_radii", radii) != radii:
            raise ModelFileError("covalent radii of the distance transform and of the repulsion that differ")
        constants["covalent_radii"] = radii
        constants["zbl_power"] = [repulsion.number("p")]
        constants["zbl_screening"] = [repulsion.number("a_prefactor"), repulsion.number("a_exp")]
        constants["zbl_weights"] = repulsion.tensor("c").tolist()
        constants["zbl_factor"] = [description.scale[head] for head in heads]
    return constants


def load_weights(model: Mace, weights: Weights) -> None:
    """Give a model its weights.

    Raises:
        ModelFileError: If some are missing, left over or of other shapes.
    """
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    wrong = [name for name in expected.keys() & weights.keys() if expected[name].shape != weights[name].shape]
    if missing or extra or wrong:
        raise ModelFileError(
            f"cannot be represented: weights missing {missing or 'none'}, left over {extra or 'none'}, "
            f"of other shapes {sorted(wrong) or 'none'}"
        )
    if broken := sorted(name for name, value in weights.items() if not np.isfinite(value).all()):
        raise ModelFileError(f"weights that are no numbers: {', '.join(broken)}; the training has diverged")
    model.load_state_dict({name: torch.as_tensor(np.ascontiguousarray(value)) for name, value in weights.items()})


def _same(values: Sequence[str], what: str) -> str | None:
    if len(set(values)) > 1:
        raise ModelFileError(f"{what} that differ after the first layer cannot be represented: {', '.join(values)}")
    return values[0] if values else None


def _sized(channels: int, irreps: str) -> str:
    return " + ".join(f"{channels}x{irrep}" for irrep in irreps.split("+"))


def _ordered(irreps: str) -> list[str]:
    return sorted(irreps.replace(" ", "").split("+"))
