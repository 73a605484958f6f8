"""PhysicsML configuration dictionaries as run files of ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ase.data import chemical_symbols

from macekit.config import TrainingRun
from macekit.errors import ConfigError, did_you_mean
from macekit.interop.physicsml.atoms import atoms_of
from macekit.interop.physicsml.fields import (
    LOSS_NAMES,
    LOSSES,
    checked,
    has_variance,
    model_choices,
    names_of,
    tuner_of,
)
from macekit.interop.physicsml.training import training_sections
from macekit.interop.physicsml.transfer import transfer_section

WHERE = "from_physicsml"
BONDS = "bond_features"
MULTI_TASK = "MultiTaskLoss"
ENERGIES = "physicsml_total_atomic_energy"


class PhysicsMLRun(NamedTuple):
    """A translated configuration."""

    run: TrainingRun
    """What `macekit.train` carries out."""
    notes: list[str]
    """Fields without a counterpart, and what is done otherwise here."""


def from_physicsml(
    description: Mapping[str, Any],
    *,
    train: str | Sequence[str] = (),
    featurisation: Mapping[str, Any] | None = None,
) -> PhysicsMLRun:
    """Translate a PhysicsML model dictionary; every field is mapped, noted, or refused by name.

    Args:
        description: `{"name": ..., "config": {...}}` as `load_from_dict` of PhysicsML takes it.
        train: Training files, which PhysicsML is given separately.
        featurisation: Configuration of `physicsml_features`, with the self energies and atom features.

    Returns:
        The run and the notes.

    Raises:
        ConfigError: If a field is unknown, or asks for something that is not there; it is named.

    Example:
        >>> run, notes = from_physicsml({
        ...     "name": "mace_model",
        ...     "config": {
        ...         "y_graph_scalars_loss_config": {"name": "MSELoss"},
        ...         "datamodule": {"y_graph_scalars": ["u0"], "cut_off": 4.0},
        ...     },
        ... })
        >>> run.data.cutoff
        4.0
    """
    unknown = sorted(description.keys() - {"name", "config", "tag", "version", "presets"})
    if unknown or not isinstance(description.get("config", {}), Mapping):
        raise ConfigError(f"{WHERE}: expected a name and a config, got {', '.join(unknown) or 'a config of no fields'}")
    name, config = str(description.get("name")), dict(description.get("config") or {})
    found = checked(name, config, WHERE)
    notes: list[str] = []
    data = _data(config, found, featurisation, notes)
    data["train"] = [train] if isinstance(train, str) else list(train)
    values = {
        "model": _model(name, found, notes),
        "data": data,
        **training_sections(config, found["datamodule"], notes),
    }
    if config.get("transfer_learning"):
        values["finetune"] = transfer_section(config, found["datamodule"], notes)
    return PhysicsMLRun(TrainingRun.from_dict(values, WHERE), notes)


def _model(name: str, found: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    values, targets = found["model"], found["targets"]
    choices = model_choices(name, values)
    choices |= {field: values[field] for field in ("avg_num_neighbours", "scaling_mean", "scaling_std")}
    for field in LOSSES:
        if field in choices and not targets[field.removesuffix("_loss_config")]:
            notes.append(f"{field}: left out, there is no target for it; it contributes nothing in PhysicsML either")
            del choices[field]
        elif field in choices:
            choices[field] = _loss(field, choices[field], notes)
    if choices["compute_forces"] and not targets["y_node_vector"]:
        notes.append(
            "compute_forces: left out, no forces are trained; predictions have them wherever there is an energy"
        )
        choices["compute_forces"] = False
    others = [key for key, target in targets.items() if target and key != "y_graph_scalars"]
    if choices["compute_forces"]:
        others.remove("y_node_vector")
    scalars = names_of(targets["y_graph_scalars"])
    if others or len(scalars) > 1:
        notes.append("scaling_mean, scaling_std: of the energy alone; other targets are scaled by their own statistics")
    if len(scalars) > 1:
        notes.append("self energies and forces belong to the first graph scalar alone, not to all of them")
    if any(key.endswith("vector") for key in others):
        notes.append("vectors are read from every layer and no mean is added to them")
    if has_variance(name):
        notes.append("the standard deviation is extensive and positive, and its variance has no floor of 0.01")
    if tuner_of(name) == "adapter":
        notes.append("adapters have no batch normalisation and at least one channel")
    return choices


def _loss(field: str, given: Any, notes: list[str]) -> dict[str, Any]:
    """A loss that means the same here.

    Raises:
        ConfigError: If there is none.
    """
    if not isinstance(given, Mapping):
        raise ConfigError(f"{WHERE}: {field}: expected a mapping with a name, got {given!r}")
    loss = {key: value for key, value in given.items() if value is not None}
    tasks = (loss.get("config") or {}).get("losses_configs") or [] if loss.get("name") == MULTI_TASK else []
    for name in (loss.get("name"), *(task.get("name") for task in tasks if isinstance(task, Mapping))):
        if name not in LOSS_NAMES:
            raise ConfigError(
                f"{WHERE}: {field}: the loss '{name}' has no counterpart; there are {', '.join(LOSS_NAMES)}",
                did_you_mean(str(name), LOSS_NAMES),
            )
    if loss.get("name") == MULTI_TASK and loss.pop("weight", 1.0) != 1.0:
        notes.append(f"{field}: the weight of {MULTI_TASK} is left out, PhysicsML takes those of its tasks alone")
    return loss


def _data(
    config: Mapping[str, Any], found: Mapping[str, Any], featurisation: Mapping[str, Any] | None, notes: list[str]
) -> dict[str, Any]:
    values, datamodule = found["model"], found["datamodule"]
    data: dict[str, Any] = {
        "cutoff": datamodule.get("cut_off", 5.0),
        "targets": {
            "y_graph_scalars": names_of(found["targets"]["y_graph_scalars"]),
            "y_graph_vector": found["targets"]["y_graph_vector"],
            "y_node_scalars": names_of(found["targets"]["y_node_scalars"]),
            "y_node_vector": found["targets"]["y_node_vector"],
        },
        "reference_energies": "none",
    }
    notes.append("labels are in eV and Å unless data.units says otherwise; scaling_mean and scaling_std are in eV")
    notes.append("num_node_feats, num_edge_feats, num_elements: elements and features are counted in the data")
    notes.append(
        "validation data are given to PhysicsML separately: here data.validation is a tenth of the training set"
    )
    columns = config.get("x_features") or []
    has_energies = not columns or datamodule.get("total_atomic_energy_col", ENERGIES) in columns
    num_elements = datamodule.get("num_elements") or values["num_node_feats"]
    has_features = values["num_node_feats"] > num_elements
    if featurisation is not None:
        known = num_elements or len(featurisation.get("atomic_number_mapping") or ())
        try:
            atoms = atoms_of(featurisation, known, has_energies, has_features)
        except ValueError as error:
            raise ConfigError(f"{WHERE}: featurisation: {error}") from None
        notes += atoms.notes
        data["node_features"] = atoms.features
        if has_energies and featurisation.get("atomic_energies") is not None:
            symbols = [chemical_symbols[number] for number in atoms.elements]
            data["reference_energies"] = dict(zip(symbols, atoms.energies, strict=True))
            notes.append("data.reference_energies are read in eV, as they are given in featurisation")
    elif has_energies:
        data["reference_energies"] = "fit"
        notes.append("self energies are fitted: they are in the featurisation, which was not given")
    if has_features and featurisation is None:
        notes.append("num_node_feats: name the additional atom features in data.node_features")
    if values["num_edge_feats"]:
        data["edge_features"] = BONDS
        notes.append(f"num_edge_feats: bond features are read from info['{BONDS}'] and vanish at the cutoff")
    for field in ("pbc", "cell"):
        if datamodule.get(field):
            notes.append(f"datamodule.{field}: no counterpart, structures bring their own")
    renamed = [field for field in datamodule if field.endswith("_col")]
    if renamed:
        notes.append(f"datamodule.{', '.join(renamed)}: no counterpart, structures have no columns")
    return data
