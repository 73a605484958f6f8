"""From choices and facts to a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator

from macekit.config import DatasetFacts, ModelConfig
from macekit.config.model import VARIANTS
from macekit.errors import ConfigError, did_you_mean
from macekit.model.backbone import Backbone
from macekit.model.compatibility import EarlyVectorReadouts, MeanDeviationHead, ShiftedVectorHead
from macekit.model.levels import PerLevel
from macekit.model.mace import Heads, Mace
from macekit.model.readout import DeviationHead, ScalarHead, ScalarReadouts, VectorHead, VectorReadouts
from macekit.model.repulsion import REPULSIONS
from macekit.o3 import parse_scalar_irreps


def build_model(
    name: str,
    config: ModelConfig | Mapping[str, Any],
    facts: DatasetFacts | Mapping[str, Any],
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Mace:
    """Make a model with fresh weights.

    Args:
        name: `mace_model`, `mean_var_mace_model`, `ssf_mace_model` or `adapter_mace_model`.
        config: Choices: the documented configuration, as an object or a mapping.
        facts: Facts about the data: elements, cutoff, targets, reference energies, scales, levels of theory.
        seed: Seed of the weights; torch's own random state is left alone.
        dtype: torch.float32 or torch.float64.

    Returns:
        A `torch.nn.Module`: forward(graph) → dict of tensors.

    Raises:
        ConfigError: If the name is unknown, a field is wrong, or a choice contradicts a fact.
    """
    if name not in VARIANTS:
        raise ConfigError(f"unknown model '{name}'; known: {', '.join(VARIANTS)}", did_you_mean(name, VARIANTS))
    config = _with_name(name, config)
    facts = facts if isinstance(facts, DatasetFacts) else DatasetFacts.from_dict(facts, "facts")
    _check(config, facts)
    generator = Generator().manual_seed(seed)
    average = facts.avg_num_neighbours if config.avg_num_neighbours == "auto" else config.avg_num_neighbours
    backbone = Backbone(
        config, facts, average or 1.0, _has_vector_output(config, facts), generator, Generator().manual_seed(seed)
    )
    repulsion = REPULSIONS[config.pair_repulsion]
    heads = _by_level([_heads(config, level, backbone, generator) for level in facts.levels()])
    return Mace(config, facts, backbone, heads, None if repulsion is None else repulsion(config, facts)).to(dtype)


def scale_and_shift(config: ModelConfig, facts: DatasetFacts, target: str) -> tuple[float, float]:
    """Factor and constant of a target: the configuration's for the energy where it has numbers, else measured.

    The facts are those of one level of theory.
    """
    scale, shift = facts.scale.get(target, 1.0), facts.shift.get(target, 0.0)
    if target == facts.targets.energy:
        scale = config.scaling_std if isinstance(config.scaling_std, float) else scale
        shift = config.scaling_mean if isinstance(config.scaling_mean, float) else shift
    return scale, shift


def _with_name(name: str, config: ModelConfig | Mapping[str, Any]) -> ModelConfig:
    values = config.model_dump(exclude_unset=True) if isinstance(config, ModelConfig) else dict(config)
    given = values.get("name", name)
    if given != name:
        raise ConfigError(f"build_model: name '{name}' but config.name is '{given}'; give one of them")
    return ModelConfig.from_dict({**values, "name": name}, "config")


def _has_vector_output(config: ModelConfig, facts: DatasetFacts) -> bool:
    if config.compatibility == "physicsml":
        return False
    direct = facts.targets.y_node_vector is not None and not config.compute_forces
    return facts.targets.y_graph_vector is not None or direct


def _check(config: ModelConfig, facts: DatasetFacts) -> None:
    for field, given, found in (
        ("num_node_feats", config.num_node_feats, facts.num_node_features),
        ("num_edge_feats", config.num_edge_feats, facts.num_edge_features),
    ):
        if given not in ("auto", found):
            raise ConfigError(
                f"model.{field}: {given} given, but the data have {found} "
                f"({len(facts.elements)} elements and the additional features); leave it out or correct it"
            )
    if config.max_ell == 0 and _has_vector_output(config, facts):
        raise ConfigError("model.max_ell: 0 given, but a vector output needs max_ell >= 1")
    if config.uncertainty == "gaussian" and not facts.targets.y_graph_scalars:
        raise ConfigError("uncertainty: gaussian needs data.targets.y_graph_scalars to name a target")
    if config.compute_forces and facts.targets.energy is None:
        raise ConfigError("model.compute_forces: true given, but data.targets.y_graph_scalars names no energy")
    if facts.targets.stress is not None and facts.targets.energy is None:
        raise ConfigError(
            f"data.targets.stress: '{facts.targets.stress}' given, but data.targets.y_graph_scalars names no energy"
        )


def _by_level(levels: Sequence[Heads]) -> Heads:
    """The heads of all levels of theory as one; a single level stays as it is."""
    if len(levels) == 1:
        return levels[0]
    names = [name for name, head in levels[0].named_children() if head is not None]
    return Heads(
        **{
            name: PerLevel([getattr(level, name) for level in levels], of_structures=name == "graph_scalars_std")
            for name in names
        }
    )


def _heads(config: ModelConfig, facts: DatasetFacts, backbone: Backbone, generator: Generator) -> Heads:
    hidden, layers, targets = parse_scalar_irreps(config.mlp_irreps), config.num_interactions, facts.targets

    def scalars(num_outputs: int) -> ScalarReadouts:
        return ScalarReadouts(
            layers,
            backbone.channels,
            hidden,
            num_outputs,
            generator,
            config.mlp_activation,
            config.read_layers,
            config.mlp_kind,
        )

    def scalar_head(names: list[str]) -> ScalarHead | None:
        if not names:
            return None
        scales, shifts = zip(*(scale_and_shift(config, facts, name) for name in names), strict=True)
        zeros = [0.0] * len(facts.elements)
        columns = [facts.reference_energies.get(name, zeros) for name in names]
        return ScalarHead(scalars(len(names)), scales, shifts, list(zip(*columns, strict=True)))

    def vector_head(name: str | None) -> VectorHead | None:
        if name is None:
            return None
        degrees = [backbone.degrees_of(i) for i in range(layers)]
        if config.compatibility == "physicsml":
            early = EarlyVectorReadouts(degrees, backbone.channels, generator)
            return ShiftedVectorHead(early, facts.scale.get(name, 1.0), facts.shift.get(name, 0.0))
        readouts = VectorReadouts(degrees, backbone.channels, hidden, generator, config.vector_gate)
        return VectorHead(readouts, facts.scale.get(name, 1.0))

    def deviation_head(names: list[str]) -> DeviationHead | None:
        if config.uncertainty == "none":
            return None
        kind = MeanDeviationHead if config.compatibility == "physicsml" else DeviationHead
        return kind(scalars(len(names)), [scale_and_shift(config, facts, name)[0] for name in names])

    return Heads(
        graph_scalars=scalar_head(targets.y_graph_scalars),
        graph_vector=vector_head(targets.y_graph_vector),
        node_scalars=scalar_head(targets.y_node_scalars),
        node_vector=None if config.compute_forces else vector_head(targets.y_node_vector),
        graph_scalars_std=deviation_head(targets.y_graph_scalars),
    )
