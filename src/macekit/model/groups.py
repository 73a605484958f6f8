"""Which parameters are which: for weight decay and for fine-tuning."""

from __future__ import annotations

import re

from torch import nn

_DECAYED = re.compile(r"^backbone\.layers\.\d+\.(interaction\.(linear|mix)\.weights\.\d+|product\.weights)$")


def decayed_parameters(model: nn.Module) -> set[str]:
    """Names of the parameters that weight decay acts on.

    As in MACE: the linear map after the messages (and the mixing by element in the first layer) and the weights of
    the symmetric contraction. Not the embedding, the radial MLP, the residuals, the read-outs, or a tuner.
    """
    return {name for name, _ in model.named_parameters() if _DECAYED.match(name)}
