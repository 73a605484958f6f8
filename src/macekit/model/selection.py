"""A model with one of its levels of theory alone."""

from __future__ import annotations

from macekit.config import DatasetFacts, ModelConfig
from macekit.errors import DataError
from macekit.model.build import build_model
from macekit.model.mace import Mace


def at_head(model: Mace, name: str = "") -> Mace:
    """The model with one level of theory alone: the same numbers, without the read-outs of the others.

    Args:
        model: A model; one that has a single level is returned as it is.
        name: Name of the head; empty: the default, or the only one.

    Raises:
        DataError: If there is no such head, or several and no default.
    """
    facts = model.facts
    check_head(facts, name)
    index = facts.head_index(name)
    if len(facts.heads) < 2:
        return model
    chosen = list(facts.heads)[index]
    single = build_model(model.config.name, _choices(model.config, index), facts.at_head(chosen), dtype=model.dtype)
    others = [f".levels.{i}." for i in range(len(facts.heads)) if i != index]
    single.load_state_dict(
        {
            key.replace(f".levels.{index}.", "."): value
            for key, value in model.state_dict().items()
            if not any(other in key for other in others)
        }
    )
    return single.to(model.device).train(model.training)


def check_head(facts: DatasetFacts, name: str) -> None:
    """Refuse a name that is no head of the model.

    Raises:
        DataError: Also where the model has a single level of theory without a name.
    """
    if name and not facts.heads:
        raise DataError(f"no head '{name}': the model has a single level of theory without a name", "leave it out")
    facts.head_index(name)


def _choices(config: ModelConfig, index: int) -> ModelConfig:
    """The configuration, without the constants that belong to other levels."""
    factors = config.radial_constants.get("zbl_factor", [])
    if len(factors) < 2:
        return config
    return config.model_copy(update={"radial_constants": config.radial_constants | {"zbl_factor": [factors[index]]}})
