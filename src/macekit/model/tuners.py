"""Parameter-efficient fine-tuning: what happens between the layers. Each is an exact identity when made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor, nn

from macekit.model.linear import DegreeLinear, split_degrees

if TYPE_CHECKING:
    from macekit.config import ModelConfig


class NoTuner(nn.Module):
    """The base model: the layer's output as it is."""

    def forward(self, h_in: Tensor, h_out: Tensor) -> Tensor:
        """The layer's output [N, D_out, K]."""
        return h_out


class SSF(nn.Module):
    """γ per channel of every irrep, β per scalar channel (arXiv 2210.08823). Starts at γ = 1, β = 0.

    Args:
        degrees_out: Degrees of the layer's output, 0 first.
        channels: K.
    """

    def __init__(self, degrees_out: Sequence[int], channels: int) -> None:
        super().__init__()
        self.degrees = tuple(degrees_out)
        self.gamma = nn.Parameter(torch.ones(len(self.degrees), channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, h_in: Tensor, h_out: Tensor) -> Tensor:
        """γ h_out + β on the scalars, [N, D_out, K]."""
        blocks = [g * block for g, block in zip(self.gamma, split_degrees(h_out, self.degrees), strict=True)]
        return torch.cat([blocks[0] + self.beta, *blocks[1:]], dim=1)


class Bottleneck(nn.Module):
    """Linear down, SiLU on the scalars, linear up; the last starts at zero.

    Args:
        degrees: Degrees that pass through.
        channels: K.
        width: Channels of the bottleneck.
        generator: Source of the initial weights.
    """

    def __init__(self, degrees: Sequence[int], channels: int, width: int, generator: Generator) -> None:
        super().__init__()
        self.degrees = tuple(degrees)
        self.down = DegreeLinear(dict.fromkeys(degrees, channels), width, generator)
        self.up = DegreeLinear(dict.fromkeys(degrees, width), channels, generator)
        for weight in self.up.parameters():
            nn.init.zeros_(weight)

    def forward(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """Map blocks [N, 2l+1, K] to blocks of the same shapes."""
        narrow = split_degrees(self.down(blocks), self.degrees)
        activated = [torch.nn.functional.silu(x) if l == 0 else x for l, x in zip(self.degrees, narrow, strict=True)]
        return split_degrees(self.up(activated), self.degrees)


class Adapter(nn.Module):
    """h_out + s_before A_before(h_in) + s_after A_after(h_out) (AdapterGNN, arXiv 2304.09595).

    The adapters' last maps start at zero and there are no batch statistics, so that this starts as an exact identity
    and never lets one structure see another.

    Args:
        degrees_in: Degrees of the layer's input.
        degrees_out: Degrees of the layer's output.
        channels: K.
        ratio: Ratio of channels to those of the bottleneck, which has at least one.
        initial_s: Start value of s_before and s_after.
        generator: Source of the initial weights.
    """

    def __init__(
        self,
        degrees_in: Sequence[int],
        degrees_out: Sequence[int],
        channels: int,
        ratio: int,
        initial_s: float,
        generator: Generator,
    ) -> None:
        super().__init__()
        width = max(1, channels // ratio)
        self.degrees_in, self.degrees_out = tuple(degrees_in), tuple(degrees_out)
        shared = [l for l in self.degrees_out if l in self.degrees_in]
        self.before = Bottleneck(shared, channels, width, generator)
        self.after = Bottleneck(self.degrees_out, channels, width, generator)
        self.s_before = nn.Parameter(torch.tensor(initial_s, dtype=torch.float64))
        self.s_after = nn.Parameter(torch.tensor(initial_s, dtype=torch.float64))

    def forward(self, h_in: Tensor, h_out: Tensor) -> Tensor:
        """The adapted output [N, D_out, K]."""
        incoming = dict(zip(self.degrees_in, split_degrees(h_in, self.degrees_in), strict=True))
        outgoing = split_degrees(h_out, self.degrees_out)
        carried = self.carried(outgoing)
        before = dict(zip(self.before.degrees, self.before([incoming[l] for l in self.before.degrees]), strict=True))
        after = self.after(outgoing)
        adapted = []
        for l, block, change in zip(self.degrees_out, carried, after, strict=True):
            adapted.append(block + self.s_after * change)
            if l in before:
                adapted[-1] = adapted[-1] + self.s_before * before[l]
        return torch.cat(adapted, dim=1)

    def carried(self, blocks: Sequence[Tensor]) -> Sequence[Tensor]:
        """What the adapters add to: the blocks [N, 2l+1, K] of the layer's output as they are."""
        return blocks


class NormalisedAdapter(Adapter):
    """γ h_out + β + s_before A_before(h_in) + s_after A_after(h_out): an adapter with batch normalisations.

    At the stored statistics a normalisation is a factor per channel and a constant for scalars. γ and β are those of
    the layer's output, β with the constants of both adapters; their factors are in their last maps.
    """

    def __init__(
        self,
        degrees_in: Sequence[int],
        degrees_out: Sequence[int],
        channels: int,
        ratio: int,
        initial_s: float,
        generator: Generator,
    ) -> None:
        super().__init__(degrees_in, degrees_out, channels, ratio, initial_s, generator)
        self.gamma = nn.Parameter(torch.ones(len(self.degrees_out), channels, dtype=torch.float64))
        self.beta = nn.Parameter(torch.zeros(channels, dtype=torch.float64))

    def carried(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        """γ of the blocks [N, 2l+1, K], and β on the scalars."""
        scaled = [factor * block for factor, block in zip(self.gamma, blocks, strict=True)]
        return [scaled[0] + self.beta, *scaled[1:]]


def make_tuner(
    config: ModelConfig, degrees_in: Sequence[int], degrees_out: Sequence[int], channels: int, generator: Generator
) -> nn.Module:
    """The tuner that follows one layer. LoRA acts inside the linear maps and needs none here."""
    if config.tuner == "ssf":
        return SSF(degrees_out, channels)
    if config.tuner == "adapter":
        kind = NormalisedAdapter if config.compatibility == "physicsml" else Adapter
        return kind(degrees_in, degrees_out, channels, config.ratio_adapter_down, config.initial_s, generator)
    return NoTuner()


def is_tuner_parameter(name: str) -> bool:
    """Whether a parameter of a model belongs to its tuner."""
    return name.startswith("backbone.tuners.") or ".lora." in name
