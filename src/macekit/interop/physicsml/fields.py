"""Every field of a PhysicsML 0.6 configuration, and what it is here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from macekit.config.model import VARIANTS
from macekit.errors import ConfigError, did_you_mean

DEFAULTS: dict[str, Any] = {
    "num_node_feats": 0,
    "num_edge_feats": 0,
    "num_bessel": 8,
    "num_polynomial_cutoff": 5,
    "max_ell": 3,
    "num_interactions": 2,
    "hidden_irreps": "128x0e + 128x1o",
    "mlp_irreps": "16x0e",
    "avg_num_neighbours": None,
    "correlation": 3,
    "scaling_mean": 0.0,
    "scaling_std": 1.0,
    "compute_forces": False,
    "ratio_adapter_down": 10,
    "initial_s": 0.01,
}
"""Architecture, with the defaults of PhysicsML."""
LOSSES = ("y_node_scalars_loss_config", "y_graph_scalars_loss_config", "y_node_vector_loss_config",
          "y_graph_vector_loss_config")  # fmt: skip
LOSS_NAMES = ("MSELoss", "L1Loss", "SmoothL1Loss", "HuberLoss", "PoissonNLLLoss", "BCELoss", "BCEWithLogitsLoss",
              "SoftMarginLoss", "HingeEmbeddingLoss", "KLDivLoss", "WeightedMSELoss", "MaskedMSELoss", "MultiTaskLoss",
              "SerialBCEWithLogitsLoss")  # fmt: skip
"""Losses of PhysicsML that mean the same here. Its others compare rows, classes or pairs, or have three inputs."""
TRAINING = ("optimizer", "scheduler", "trainer", "transfer_learning", "x_features", "y_features", "train_features",
            "compile", "float32_matmul_precision")  # fmt: skip
"""Fields that a model does not depend on once it is trained."""
OF_ADAPTERS = ("ratio_adapter_down", "initial_s")
TARGETS = ("y_graph_scalars", "y_graph_vector", "y_node_scalars", "y_node_vector")
COLUMNS = ("atomic_numbers_col", "coordinates_col", "node_attrs_col", "edge_attrs_col", "node_idxs_col",
           "edge_idxs_col", "total_atomic_energy_col")  # fmt: skip
"""Names of columns, which structures here do not have."""
BATCHES = ("train", "validation", "test", "predict", "num_workers", "pre_batch", "pre_batch_in_memory",
           "train_batch_size", "validation_batch_size", "max_nbins")  # fmt: skip
GEOMETRY = ("pbc", "cell", "use_scaled_positions")
"""Belong to structures here."""
REFUSED = {
    "self_interaction": "edges from atoms to themselves",
    "graph_attrs_cols": "features of whole structures",
    "y_edge_scalars": "scalar targets of edges",
    "y_edge_vector": "vector targets of edges",
}
"""Fields of the datamodule that have no counterpart once they are set."""
DATAMODULE = ("num_elements", "cut_off", *TARGETS, *COLUMNS, *BATCHES, *GEOMETRY, *REFUSED)


def checked(name: str, config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The configuration with PhysicsML's defaults, all of whose fields are known and represented.

    Args:
        name: Name of the model.
        config: Its configuration.
        where: Start of every message.

    Returns:
        The architecture, the targets and `cut_off`, `num_elements`, column names of the datamodule.

    Raises:
        ConfigError: If the model or a field is unknown, or asks for what cannot be represented.
    """
    if name not in VARIANTS:
        raise ConfigError(
            f"{where}: the model '{name}' is not read; read are {', '.join(VARIANTS)}", did_you_mean(name, VARIANTS)
        )
    known = {*DEFAULTS, *LOSSES, *TRAINING, "datamodule"} - (set() if tuner_of(name) == "adapter" else set(OF_ADAPTERS))
    _only(config, known, where)
    datamodule = config.get("datamodule") or {}
    if not isinstance(datamodule, Mapping):
        raise ConfigError(f"{where}: datamodule: expected a mapping, got {datamodule!r}")
    _only(datamodule, DATAMODULE, f"{where}: datamodule")
    for field, meaning in REFUSED.items():
        if datamodule.get(field):
            raise ConfigError(f"{where}: datamodule.{field}: {meaning} cannot be represented; it must be unset")
    if config.get("compile"):
        raise ConfigError(f"{where}: compile: compiled models cannot be represented; it must be false")
    values = {field: config.get(field, default) for field, default in DEFAULTS.items() if field in known}
    values |= {field: config[field] for field in LOSSES if config.get(field) is not None}
    targets = {field: datamodule.get(field) for field in TARGETS}
    if not any(targets.values()):
        raise ConfigError(f"{where}: datamodule: no target; expected one of {', '.join(TARGETS)}")
    return {"model": values, "targets": targets, "datamodule": dict(datamodule)}


def model_choices(name: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Our choices of architecture and losses, from what `checked` returns as model."""
    taken = ("num_bessel", "num_polynomial_cutoff", "max_ell", "num_interactions", "hidden_irreps", "mlp_irreps",
             "correlation", "compute_forces", *OF_ADAPTERS, *LOSSES)  # fmt: skip
    choices = {"name": name, **{field: values[field] for field in taken if field in values}}
    if has_variance(name):
        choices.pop("y_graph_scalars_loss_config", None)
    return choices


def tuner_of(name: str) -> str:
    """The tuner of a model: none, ssf or adapter."""
    return VARIANTS[name].get("tuner", "none")


def has_variance(name: str) -> bool:
    """Whether a model predicts a variance."""
    return "uncertainty" in VARIANTS[name]


def names_of(target: Any) -> list[str]:
    """Names of the targets of an output."""
    return [] if not target else [target] if isinstance(target, str) else list(target)


def _only(given: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    known = sorted(known)
    for field in given:
        if field not in known:
            raise ConfigError(f"{where}: the field '{field}' has no counterpart", did_you_mean(field, known))
