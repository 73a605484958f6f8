"""Which parameters are which: for weight decay and for fine-tuning."""

from __future__ import annotations

import re

from torch import nn

from macekit.model.tuners import is_tuner_parameter

_DECAYED = re.compile(
    r"^backbone\.layers\.\d+\.(interaction\.linear\.weights\.\d+|product\.(linear\.)?weights(\.\d+)?)$"
)

_INTENTS = (
    (r"backbone\.layers\.\d+\.product\.", "products"),
    (r"backbone\.layers\.", "interactions"),
    (r"backbone\.", "embeddings"),
    (r"heads\.", "readouts"),
)

ROWS = "_trained_rows"
"""Attribute of a parameter of which only some rows are trained: a mask over them."""


def decayed_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay acts on.

    As in MACE: the linear map after the messages, the weights of the symmetric contraction, and the linear map after
    it. Not the embedding, the linear map before the messages, the radial MLP, anything by element, the read-outs, or
    a tuner; nor a parameter of which only some rows are trained.
    """
    return {
        name for name, parameter in model.named_parameters() if _DECAYED.match(name) and not hasattr(parameter, ROWS)
    }


def intent_of(name: str) -> str:
    """The group that a parameter belongs to: embeddings, interactions, products, readouts or tuners.

    Every parameter of a model is in exactly one.
    """
    if is_tuner_parameter(name):
        return "tuners"
    for start, group in _INTENTS:
        if re.match(start, name):
            return group
    raise AssertionError(f"the parameter {name} is in no group")
