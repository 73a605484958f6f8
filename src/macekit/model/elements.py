"""The same model for other elements: rows of its weights taken away, or added for elements that it does not know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from macekit.model.backbone import Backbone
from macekit.model.linear import AttributeLinear
from macekit.model.mace import Mace
from macekit.model.nonlinear import NonlinearInteraction
from macekit.model.product import ProductBasis
from macekit.model.selection import with_elements, with_rows

NOBLE_GASES = (2, 10, 18, 36, 54, 86, 118)


class Adapted(NamedTuple):
    """A model for other elements."""

    model: Mace
    """Computes the same as the model before for elements that both know."""
    relatives: dict[int, int]
    """New elements, and the known element whose weights each starts with."""


def for_elements(model: Mace, elements: Sequence[int]) -> Adapted:
    """The model for the given elements.

    Args:
        model: A model. Not changed.
        elements: Atomic numbers. Those that the model does not know start with the weights of their nearest
            relative, and with no reference energy.
    """
    known = model.facts.elements
    relatives = {number: nearest_relative(number, known) for number in sorted(set(elements) - set(known))}
    if relatives:
        every = sorted({*known, *relatives})
        model = with_rows(model, every, [known.index(relatives.get(number, number)) for number in every])
    return Adapted(with_elements(model, elements), relatives)


def element_parameters(model: Mace) -> set[str]:
    """Names of the tensors with a row per element."""
    found: set[str] = set()
    for prefix, module in model.named_modules():
        if isinstance(module, Backbone):
            found.add(f"{prefix}.embedding")
        elif isinstance(module, AttributeLinear):
            found |= {f"{prefix}.{name}" for name, _ in module.named_parameters()}
        elif isinstance(module, ProductBasis):
            found |= {f"{prefix}.weights"} | ({f"{prefix}.rounding_weights"} if module.num_rounding else set())
        elif isinstance(module, NonlinearInteraction):
            found |= {f"{prefix}.sender_embedding", f"{prefix}.receiver_embedding"}
    return found


def nearest_relative(number: int, known: Sequence[int]) -> int:
    """The known element of the nearest group, and there of the nearest period."""
    group = _group(number)
    return min(known, key=lambda other: (abs(_group(other) - group), abs(other - number), other))


def _group(number: int) -> int:
    """Group 1 to 18; lanthanides and actinides count as group 3, and hydrogen is on its own."""
    if number == 1:
        return 0
    start = max((noble for noble in NOBLE_GASES if noble < number), default=0)
    end = min(noble for noble in NOBLE_GASES if noble >= number)
    if number == end:
        return 18
    return number - start if number - start <= 2 else max(3, 18 - (end - number))
