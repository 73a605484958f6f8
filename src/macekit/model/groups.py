"""Which parameters are which: for weight decay and for fine-tuning."""

from __future__ import annotations

import re

from torch import nn

_DECAYED = re.compile(
    r"^backbone\.layers\.\d+\.(interaction\.linear\.weights\.\d+|product\.(linear\.)?weights(\.\d+)?)$"
)


def decayed_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay acts on.

    As in MACE: the linear map after the messages, the weights of the symmetric contraction, and the linear map after
    it. Not the embedding, the linear map before the messages, the radial MLP, anything by element, the read-outs, or
    a tuner.
    """
    return {name for name, _ in model.named_parameters() if _DECAYED.match(name)}
