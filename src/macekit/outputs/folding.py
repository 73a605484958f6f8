"""A model as the inference engine computes it: linear maps folded together, radial networks tabulated.

The polynomials of a layer are followed by nothing but linear maps until the next convolution, and until the read-out.
All of these become one matrix (for each element, where a residual is by element) and one constant for each element.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from macekit.kernels.engine import HIGHEST_ELL, HIGHEST_INPUT, MOST_COLUMNS
from macekit.kernels.folded import NOTHING, FloatArray, FoldedLayer, FoldedModel, Map, Moments, Readout, Repulsion
from macekit.kernels.structure import ContractionStructure
from macekit.model.interaction import AverageNumber, Interaction
from macekit.model.layer import Layer
from macekit.model.linear import AttributeLinear, DegreeLinear
from macekit.model.mace import Mace
from macekit.model.nonlinear import NonlinearInteraction
from macekit.model.readout import BiasedMLP, LinearReadout, ScalarHead, ScalarMLP
from macekit.model.repulsion import BOHR, COULOMB
from macekit.model.tuners import SSF, NoTuner
from macekit.outputs.radial_folding import RadialTables, tabulate

MOST_ELEMENTS = 6
"""For which the first layer can go by moments; their matrices are for every pair of elements."""


class NotFoldable(Exception):
    """The engine cannot compute this model; the message names the feature."""


class Affine(NamedTuple):
    """Features of one layer as linear maps of polynomials, and for the scalars a constant for each element."""

    maps: dict[tuple[int, int], Tensor]
    """By (layer, degree): [1 or S, K, K]."""
    constant: Tensor
    """[S, K]."""

    def times(self, matrices: dict[int, Tensor]) -> Affine:
        """After further maps [1 or S, K, ·], which are by degree; degrees without one vanish."""
        maps = {key: value @ matrices[key[1]] for key, value in self.maps.items() if key[1] in matrices}
        return Affine(maps, torch.matmul(self.constant[:, None], matrices[0])[:, 0])

    def plus(self, other: Affine) -> Affine:
        """The sum."""
        maps = dict(self.maps)
        for key, value in other.maps.items():
            maps[key] = maps[key] + value if key in maps else value
        return Affine(maps, self.constant + other.constant)

    def sources(self, degrees: Sequence[int]) -> list[Map]:
        """What contributes to features of these degrees."""
        return [Map(layer, l, value.numpy()) for (layer, l), value in sorted(self.maps.items()) if l in degrees]


def refusal(model: Mace) -> str | None:
    """The feature of a model that the engine does not have; None: it has all."""
    config, facts = model.config, model.facts
    heads = model.heads
    others = {
        "a vector of structures": heads.graph_vector,
        "scalars of atoms": heads.node_scalars,
        "vectors of atoms": heads.node_vector,
        "standard deviations": heads.graph_scalars_std,
    }
    reasons = {
        "a model without an energy": facts.targets.energy is None or heads.graph_scalars is None,
        **{f"{name} beside the energy": head is not None for name, head in others.items()},
        "several levels of theory at once": len(facts.heads) > 1,
        "additional atom features": facts.num_node_features != len(facts.elements),
        "bond features": facts.num_edge_features > 0,
        f"the tuner '{config.tuner}'": not all(isinstance(tuner, (NoTuner, SSF)) for tuner in model.backbone.tuners),
        "the interaction 'nonlinear_residual'": not all(
            isinstance(layer.interaction, Interaction) for layer in _layers(model)
        ),
        f"max_ell above {HIGHEST_ELL}": config.max_ell > HIGHEST_ELL,
        f"features above l = {HIGHEST_INPUT} that are sent": max(map(_highest_sent, _layers(model))) > HIGHEST_INPUT,
    }
    return next((name for name, applies in reasons.items() if applies), None)


def fold(model: Mace, elements: Sequence[int], dtype: torch.dtype) -> FoldedModel:
    """The model for some of its elements.

    Args:
        model: The model; it is not changed.
        elements: Indices among the model's elements, ascending.
        dtype: Precision of the engine, which sets that of the radial tables.

    Raises:
        NotFoldable: If the engine does not have all that the model does.
    """
    if (missing := refusal(model)) is not None:
        raise NotFoldable(missing)
    model = copy.deepcopy(model).cpu().double().requires_grad_(False)
    index = torch.tensor(list(elements), dtype=torch.int64)
    with torch.no_grad():
        tables = tabulate(model, elements, dtype)
        backbone = model.backbone
        embedding = backbone.embedding[index] / math.sqrt(backbone.normalisation)
        features, layers, per_layer = Affine({}, embedding), [], []
        for t, layer in enumerate(_layers(model)):
            is_last = t == len(backbone.layers) - 1
            folded, features = _fold_layer(layer, t, is_last, features, tables, index)
            if layer.bias is not None:
                features = Affine(features.maps, features.constant + layer.bias)
            tuner = backbone.tuners[t]
            if isinstance(tuner, SSF):
                features = _tuned(features, tuner)
            layers.append(folded)
            per_layer.append(features)
        readout = _fold_readout(model, per_layer, index)
        moments = _fold_moments(model, layers[0], tables, index) if len(index) <= MOST_ELEMENTS else None
    if readout.hidden + len(readout.scale) > MOST_COLUMNS:
        raise NotFoldable(f"a read-out of more than {MOST_COLUMNS} units")
    return FoldedModel(
        model.config.max_ell, backbone.channels, backbone.cutoff, tables.knots, tables.pair, layers, moments, readout,
        _fold_repulsion(model, index),
    )  # fmt: skip


def _layers(model: Mace) -> list[Layer]:
    return [layer for layer in model.backbone.layers if isinstance(layer, Layer)]


def _highest_sent(layer: Layer) -> int:
    assert isinstance(layer.interaction, (Interaction, NonlinearInteraction))
    return max(layer.interaction.degrees_up)


def _by_degree(linear: DegreeLinear) -> dict[int, Tensor]:
    """Matrices [1, fan_in, K]."""
    return {l: linear.scaled_weight(l)[None] for l in linear.degrees}


def _by_element(linear: AttributeLinear, index: Tensor) -> dict[int, Tensor]:
    """Matrices [S, K, K]."""
    matrices = {}
    for l in linear.degrees:
        weight = linear.weights[str(l)]
        matrices[l] = weight[index] / math.sqrt(linear.normalisation * weight.shape[1])
    return matrices


def _fold_layer(
    layer: Layer, t: int, is_last: bool, features: Affine, tables: RadialTables, index: Tensor
) -> tuple[FoldedLayer, Affine]:
    """The layer, and its features."""
    interaction, product = layer.interaction, layer.product
    assert isinstance(interaction, Interaction)
    sent = features.times(_by_degree(interaction.linear_up))
    degrees_out = (0,) if is_last else layer.degrees_out
    mixing = _by_degree(interaction.linear)
    if isinstance(interaction.normalisation, AverageNumber):
        mixing = {l: matrix / interaction.normalisation.value for l, matrix in mixing.items()}
    if interaction.mix is not None:
        by_element = _by_element(interaction.mix, index)
        mixing = {l: matrix @ by_element[l] for l, matrix in mixing.items()}
    structure = ContractionStructure.from_key(product.key)
    weights = torch.as_tensor(structure.basis()) @ product.weights[index]  # [S, terms, K]
    if product.num_rounding:
        weights = weights + product.rounding_basis @ product.rounding_weights[index]
    kept = np.concatenate([np.full(len(p.outputs), p.degree in degrees_out) for p in structure.products])
    correlation = max(p.order for p in structure.products)
    folded = FoldedLayer(
        convolution=interaction.key,
        contraction=ContractionStructure.key(structure.max_ell, degrees_out, correlation, structure.has_cancelling),
        width=interaction.width,
        table=tables.weights[t],
        constant=sent.constant.numpy(),
        sources=sent.sources(interaction.degrees_up),
        mixing={l: matrix.numpy() for l, matrix in mixing.items()},
        density=tables.densities[t],
        coefficients=weights[:, torch.as_tensor(kept)].numpy(),
    )
    own = {(t, l): matrix for l, matrix in _by_degree(product.linear).items() if l in degrees_out}
    after = Affine(own, torch.zeros_like(features.constant))
    if layer.residual is not None:
        residual = layer.residual
        is_by_element = isinstance(residual, AttributeLinear)
        matrices = _by_element(residual, index) if is_by_element else _by_degree(residual)  # type: ignore[arg-type]
        after = after.plus(features.times(matrices))
    return folded, after


def _tuned(features: Affine, tuner: SSF) -> Affine:
    scales = dict(zip(tuner.degrees, tuner.gamma, strict=True))
    maps = {key: value * scales[key[1]] for key, value in features.maps.items()}
    return Affine(maps, features.constant * scales[0] + tuner.beta)


def _fold_readout(model: Mace, per_layer: Sequence[Affine], index: Tensor) -> Readout:
    """Columns are the hidden units of the last layer's MLP, then the sums of the linear read-outs."""
    head = model.heads.graph_scalars
    assert isinstance(head, ScalarHead)
    modules = list(head.readouts.readouts)
    mlp = modules[-1]
    assert isinstance(mlp, (ScalarMLP, BiasedMLP))
    hidden, outputs = mlp.linear_1.weight.shape[1], mlp.linear_2.weight.shape[1]
    total = Affine({}, torch.zeros(len(index), hidden + outputs, dtype=torch.float64))
    for features, module in zip(per_layer[len(per_layer) - len(modules) :], modules, strict=True):
        columns = torch.zeros(1, features.constant.shape[1], hidden + outputs, dtype=torch.float64)
        if isinstance(module, LinearReadout):
            columns[0, :, hidden:] = _scaled(module)
        else:
            columns[0, :, :hidden] = _scaled(mlp.linear_1)
        total = total.plus(features.times({0: columns}))
    targets = model.facts.targets
    is_energy = [float(name == targets.energy) for name in targets.y_graph_scalars]
    return Readout(
        hidden=hidden,
        activation=model.config.mlp_activation,
        norm=mlp.activation.norm,
        reads=total.sources([0]),
        constant=total.constant.numpy(),
        middle=_scaled(mlp.linear_mid).numpy() if isinstance(mlp, BiasedMLP) else NOTHING,
        middle_bias=mlp.bias_mid.numpy() if isinstance(mlp, BiasedMLP) else NOTHING,
        last=_scaled(mlp.linear_2).numpy(),
        last_bias=mlp.bias_2.numpy() if isinstance(mlp, BiasedMLP) else np.zeros(outputs),
        scale=head.scale.value.numpy(),
        offset=(head.reference.value[index] + head.shift.value).numpy(),
        seed=np.ones(outputs) if model.config.compatibility == "physicsml" else np.array(is_energy),
    )


def _scaled(readout: LinearReadout) -> Tensor:
    return readout.weight / math.sqrt(readout.weight.shape[0])


def _fold_moments(model: Mace, first: FoldedLayer, tables: RadialTables, index: Tensor) -> Moments:
    """Moments of hidden units go through the last radial layer, the sender's scalars, and the maps that follow."""
    interaction = _layers(model)[0].interaction
    assert isinstance(interaction, Interaction)
    structure = interaction.structure
    weight = interaction.radial.weights[-1]
    weight = (weight / math.sqrt(weight.shape[0])).unflatten(1, (-1, interaction.width))  # [H, P, width]
    constant = torch.as_tensor(first.constant)  # [S, width]
    coupling = structure.coupling()
    columns = structure.path_of_column()
    matrices: list[FloatArray] = []
    for path in sorted(structure.paths, key=lambda path: path.l_out):
        factor = coupling[path.l_sh**2, structure.rows_out(path.l_out).start, columns.index(path.index)]
        mixing = torch.as_tensor(first.mixing[path.l_out])  # [1 or S, width, K]
        by_sender = weight[:, path.index] * constant[:, None] * factor  # [S, H, width]
        matrices.append((by_sender.flatten(0, 1) @ mixing).numpy())  # [1 or S, S H, K]
    return Moments(tables.hidden, matrices)


def _fold_repulsion(model: Mace, index: Tensor) -> Repulsion | None:
    repulsion, targets = model.repulsion, model.facts.targets
    if repulsion is None or targets.energy is None:
        return None
    numbers, radii = repulsion.numbers.value[index], repulsion.radii.value[index]
    prefactor, exponent = repulsion.screening.value
    powers = numbers.pow(exponent)
    strength = 0.5 * repulsion.factors.value * COULOMB * numbers[:, None] * numbers
    inverse = (powers[:, None] + powers) / (prefactor * BOHR)
    return Repulsion(
        repulsion.power,
        targets.y_graph_scalars.index(targets.energy),
        repulsion.weights.value.numpy(),
        repulsion.decays.value.numpy(),
        strength.numpy(),
        inverse.numpy(),
        (radii[:, None] + radii).numpy(),
    )
