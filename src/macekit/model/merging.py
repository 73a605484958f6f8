"""Tuners folded into the weights that they tune, so that a tuned model runs at the speed of the base model."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from macekit.config import ModelConfig
from macekit.config.model import variant_of
from macekit.errors import UsageError
from macekit.model.build import build_model
from macekit.model.layer import Layer
from macekit.model.linear import DegreeLinear
from macekit.model.mace import Mace
from macekit.model.tuners import SSF, is_tuner_parameter

FOLDABLE = ("ssf", "lora")
"""Tuners that are linear in the layers' outputs or weights."""


def merged(model: Mace) -> Mace:
    """A model with the same predictions and without its tuner.

    LoRA is added to its matrices. The γ of SSF goes into the last linear map and the residual of every layer, its β
    into a constant per scalar channel (`scalar_bias`).

    Args:
        model: A model with `tuner` ssf or lora. Not changed.

    Returns:
        A model of the same precision, on the same device; predictions agree to rounding.

    Raises:
        UsageError: If there is no tuner, or one that cannot be folded.
    """
    tuner = model.config.tuner
    if tuner == "none":
        raise UsageError("nothing to merge: the model has no tuner", "use it as it is")
    if tuner not in FOLDABLE:
        raise UsageError(
            f"a tuner of kind {tuner} acts after the layers and is not linear, so it cannot be folded into weights; "
            f"{' and '.join(FOLDABLE)} can",
            "use the model as it is",
        )
    config = merged_config(model.config)
    base = build_model(config.name, config, model.facts, dtype=torch.float64).to(model.device)
    state = {name: value.detach().clone() for name, value in model.state_dict().items() if not is_tuner_parameter(name)}
    state |= dict(_lora(model) if tuner == "lora" else _ssf(model))
    base.load_state_dict({name: value.to(base.state_dict()[name].dtype) for name, value in state.items()})
    return base.to(model.dtype).train(model.training)


def merged_config(config: ModelConfig) -> ModelConfig:
    """The choices of the model without its tuner."""
    changes = {
        "name": variant_of("none", config.uncertainty),
        "tuner": "none",
        "scalar_bias": config.scalar_bias or config.tuner == "ssf",
    }
    return config.model_copy(update=changes)


def _lora(model: Mace) -> Iterator[tuple[str, Tensor]]:
    """W + A B of every matrix."""
    for name, module in model.named_modules():
        if isinstance(module, DegreeLinear) and module.lora is not None:
            for l in module.degrees:
                down, up = (module.lora[f"{way}_{l}"].detach().double() for way in ("down", "up"))
                yield f"{name}.weights.{l}", module.weights[str(l)].detach().double() + down @ up


def _ssf(model: Mace) -> Iterator[tuple[str, Tensor]]:
    """W γ of the maps that end a layer, and γ b + β."""
    for index, (layer, tuner) in enumerate(zip(model.backbone.layers, model.backbone.tuners, strict=True)):
        assert isinstance(layer, Layer)
        assert isinstance(tuner, SSF)
        name = f"backbone.layers.{index}"
        gamma = dict(zip(tuner.degrees, tuner.gamma.detach().double(), strict=True))
        ending: dict[str, nn.Module | None] = {"product.linear": layer.product.linear, "residual": layer.residual}
        for part, linear in ending.items():
            weights = {} if linear is None else dict(linear.named_parameters())
            for key, weight in weights.items():
                yield f"{name}.{part}.{key}", weight.detach().double() * gamma[int(key.rpartition(".")[2])]
        before = torch.zeros_like(gamma[0]) if layer.bias is None else layer.bias.detach().double()
        yield f"{name}.bias", gamma[0] * before + tuner.beta.detach().double()
