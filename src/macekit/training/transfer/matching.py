"""Weights taken over from a trained model: which, and where they go."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from macekit.config import TargetsConfig
from macekit.errors import ConfigError
from macekit.kernels.structure import ContractionStructure
from macekit.model.mace import Mace
from macekit.model.module_names import BACKBONES, HEADS, members
from macekit.model.product import ProductBasis
from macekit.model.tuners import is_tuner_parameter

WHERE = "finetune.modules_to_match"
OUTPUT_OF_HEAD = {
    "graph_scalars": "y_graph_scalars",
    "graph_scalars_std": "y_graph_scalars",
    "graph_vector": "y_graph_vector",
    "node_scalars": "y_node_scalars",
    "node_vector": "y_node_vector",
}
COLUMNS = re.compile(r"readouts\.\d+\.(weight|linear_2\.weight|bias_2)$")
"""Ends of the names of tensors in read-outs of scalars whose last axis is one of targets."""


class Matched(NamedTuple):
    """What the new model starts with."""

    state: dict[str, Tensor]
    """All tensors of the new model."""
    taken: set[str]
    """Names of those that come from the trained model, in whole or in part."""
    targets: set[str]
    """Targets whose heads were taken over, with their scales and reference energies."""


def matched(new: Mace, source: Mace, modules: Mapping[str, str] | None) -> Matched:
    """The tensors of a new model, those of a trained model in place of fresh ones where modules match.

    Args:
        new: The new model with its fresh weights, for the same elements. Not changed.
        source: The trained model. Not changed.
        modules: {module of the new model: module of the trained model}; None: all message passing, and the heads of
            targets that both have.

    Raises:
        ConfigError: If modules do not exist, or differ in shape.
    """
    state = {name: value.detach().clone() for name, value in new.state_dict().items()}
    found = Matched(state, set(), set())
    old = source.state_dict()
    if modules is None:
        _take_backbone(found, new, source, "mace", "mace")
        for head in OUTPUT_OF_HEAD:
            _take_head(found, new, source, head)
        return found
    for name, origin in modules.items():
        if name in BACKBONES and origin in BACKBONES:
            _take_backbone(found, new, source, name, origin)
            continue
        _take_module(found, _members(name, state, "new", old), _members(origin, old, "trained", state), old, name)
        if name in HEADS and name == origin:
            found.targets.update(_common(new, source, HEADS[name]))
    return found


def _members(module: str, names: Mapping[str, Tensor], which: str, others: Mapping[str, Tensor]) -> dict[str, str]:
    """Tensors of a module, with a hint where the direction of the mapping was confused."""
    try:
        return members(module, names, f"{WHERE}, {{module of the new model: module of the trained model}}: {which}")
    except ConfigError as error:
        try:
            members(module, others, WHERE)
        except ConfigError:
            raise error from None
        raise ConfigError(error.message, "the other model has it: exchange both sides") from None


def _take_module(
    found: Matched, new: Mapping[str, str], old: Mapping[str, str], tensors: Mapping[str, Tensor], name: str
) -> None:
    for inner, own in new.items():
        key = of_one_level(inner)
        if is_tuner_parameter(own) and key not in old:
            continue
        if key not in old:
            raise ConfigError(f"{WHERE}: {name}: the trained model has no counterpart of {own}")
        value = tensors[old[key]]
        if value.shape != found.state[own].shape:
            raise ConfigError(
                f"{WHERE}: {name}: {own} is {list(found.state[own].shape)} in the new model and {list(value.shape)} "
                "in the trained model",
                "leave this module out, or make the model section agree",
            )
        found.state[own] = value.to(found.state[own])
        found.taken.add(own)


def _take_backbone(found: Matched, new: Mace, source: Mace, name: str, origin: str) -> None:
    """All message passing. The last layer may have vectors in one model alone, for a head that the other has not."""
    own = members(name, found.state, WHERE)
    old, tensors = dict(members(origin, source.state_dict(), WHERE)), source.state_dict()
    last = len(new.backbone.layers) - 1
    if source.config.num_interactions == new.config.num_interactions and new.backbone.degrees_of(
        last
    ) != source.backbone.degrees_of(last):
        prefix = f"layers.{last}."
        for key, value in _with_degrees(new, source, last).items():
            full = f"backbone.{prefix}{key}"
            found.state[full] = value.to(found.state[full])
            found.taken.add(full)
        fresh = _of_other_degrees(own, old, prefix)
        own = {key: value for key, value in own.items() if key not in fresh}
        own = {key: value for key, value in own.items() if not key.startswith(f"{prefix}product.weights")}
        own = {key: value for key, value in own.items() if not key.startswith(f"{prefix}product.rounding_")}
        own = {key: value for key, value in own.items() if not _take_gamma(found, tensors, value, last)}
    _take_module(found, own, old, tensors, name)


def _take_gamma(found: Matched, tensors: Mapping[str, Tensor], name: str, layer: int) -> bool:
    """Whether this is the γ of a layer, whose rows are degrees; those of both models are then taken."""
    if name != f"backbone.tuners.{layer}.gamma" or name not in tensors:
        return False
    rows = min(len(found.state[name]), len(tensors[name]))
    found.state[name][:rows] = tensors[name][:rows].to(found.state[name])
    found.taken.add(name)
    return True


def _of_other_degrees(own: Mapping[str, str], old: Mapping[str, str], prefix: str) -> set[str]:
    """Matrices of degrees that the last layer of the trained model does not put out."""
    parts = (f"{prefix}product.linear.", f"{prefix}residual.")
    return {key for key in own if key.startswith(parts) and key not in old}


def _with_degrees(new: Mace, source: Mace, layer: int) -> dict[str, Tensor]:
    """Weights of the product of a layer: those of shared degrees of the trained model, fresh ones of others."""
    ours, theirs = (model.backbone.layers[layer].product for model in (new, source))
    assert isinstance(ours, ProductBasis)
    assert isinstance(theirs, ProductBasis)
    functions = _positions(ours.key, theirs.key, of_terms=False)
    weights = ours.weights.detach().clone()
    weights[:, functions[0]] = theirs.weights.detach()[:, functions[1]].to(weights)
    changed = {"product.weights": weights}
    if theirs.num_rounding:
        terms = _positions(ours.key, theirs.key, of_terms=True)
        basis = torch.zeros_like(ours.rounding_basis)
        basis[terms[0]] = theirs.rounding_basis[terms[1]].to(basis)
        changed |= {"product.rounding_basis": basis, "product.rounding_weights": theirs.rounding_weights}
    return changed


def _positions(new: str, old: str, *, of_terms: bool) -> tuple[list[int], list[int]]:
    """Positions of the functions (or terms) of shared orders and degrees in two contractions."""
    places = []
    for key in (new, old):
        structure, place, start = ContractionStructure.from_key(key), {}, 0
        count = len(structure.degrees_out)
        for index, product in enumerate(structure.products):
            size = len(product.outputs) if of_terms else product.num_functions
            place[index // count, structure.degrees_out[index % count]] = range(start, start + size)
            start += size
        places.append(place)
    shared = [group for group in places[0] if group in places[1]]
    first, second = ([i for group in shared for i in place[group]] for place in places)
    return first, second


def _take_head(found: Matched, new: Mace, source: Mace, head: str) -> None:
    """The columns of targets that both models have, of one head."""
    common = _common(new, source, head)
    if not common or not _is_trainable(source, head):
        return
    own_targets, old_targets = (_targets(model.facts.targets, head) for model in (new, source))
    columns = [(own_targets.index(target), old_targets.index(target)) for target in common]
    prefix = f"heads.{head}."
    old = {name: value for name, value in source.state_dict().items() if name.startswith(prefix)}
    own = [name for name in found.state if name.startswith(prefix)]
    for name in own:
        value = old.get(of_one_level(name))
        has_columns = COLUMNS.search(name) is not None and "vector" not in head
        fresh = found.state[name]
        if value is None or (value.shape[:-1] if has_columns else value.shape) != (
            fresh.shape[:-1] if has_columns else fresh.shape
        ):
            shape = "missing" if value is None else list(value.shape)
            raise ConfigError(
                f"{name}: {list(fresh.shape)} in the new model and {shape} in the trained model, so that the head "
                f"of {', '.join(common)} cannot be taken over",
                "leave mlp_irreps and the like out of the model section, or give modules_to_match without this head",
            )
        if has_columns:
            for here, there in columns:
                fresh[..., here] = value[..., there].to(fresh)
        else:
            found.state[name] = value.to(fresh)
        found.taken.add(name)
    found.targets.update(common)


def of_one_level(name: str) -> str:
    """What a tensor of a model with several levels of theory is called in a model with one."""
    return re.sub(r"(^|\.)levels\.\d+\.", r"\1", name)


def _is_trainable(source: Mace, head: str) -> bool:
    """Whether a head is of our kind: those of PhysicsML for vectors and deviations are not."""
    return source.config.compatibility == "none" or head in ("graph_scalars", "node_scalars")


def _common(new: Mace, source: Mace, head: str) -> list[str]:
    if getattr(new.heads, head) is None or getattr(source.heads, head) is None:
        return []
    theirs = _targets(source.facts.targets, head)
    return [target for target in _targets(new.facts.targets, head) if target in theirs]


def _targets(targets: TargetsConfig, head: str) -> Sequence[str]:
    value = getattr(targets, OUTPUT_OF_HEAD[head])
    return value if isinstance(value, list) else [value] if value else []
