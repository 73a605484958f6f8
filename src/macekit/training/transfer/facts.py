"""Facts of a model that starts from another: whose scales and reference energies hold, for every level of theory."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from macekit.config import DatasetFacts, FinetuneConfig, TrainingRun
from macekit.config.facts import LevelFacts
from macekit.data import Structure
from macekit.data.levels import heads_of, of_head
from macekit.data.reference_energies import atomic_number_of, is_by_symbol
from macekit.errors import ConfigError
from macekit.geometry.statistics import Measured
from macekit.geometry.stored_statistics import facts_of
from macekit.model.build import build_model, scale_and_shift
from macekit.model.mace import Mace
from macekit.training.run_directory import RunLog
from macekit.training.transfer.reference import errors_of, refitted, residual_table

TITLES: Final = {
    "keep": "kept",
    "refit": "refitted to the errors of the trained model",
    "data": "of the data section",
}


def choice_of(finetune: FinetuneConfig, level: str) -> str | None:
    """Which reference energies a level of theory gets: replayed structures keep those of the trained model."""
    return "keep" if finetune.replay is not None and level == finetune.replay.head else finetune.reference_energies


def measured_for(run: TrainingRun, structures: Sequence[Structure], carried: Collection[str], log: RunLog) -> Measured:
    """Facts of the data; reference energies that come from the trained model are not asked of them.

    Raises:
        ConfigError: If reference energies have to be chosen and were not.
    """
    finetune = run.finetune
    assert finetune is not None
    scalars = run.data.targets.y_graph_scalars
    replaced = [name for name in scalars if name in carried]
    if replaced and finetune.reference_energies is None:
        raise ConfigError(
            f"finetune.reference_energies: required, because the head of {', '.join(replaced)} is taken over: keep (E0 "
            "of the trained model, for data of its level of theory), refit (so that its errors on the training data "
            "are smallest), or data (as data.reference_energies says)"
        )
    choice: Any = run.data.reference_energies
    if replaced and finetune.reference_energies != "data":
        others = dict(choice) if isinstance(choice, dict) and any(name in choice for name in scalars) else {}
        everywhere = choice if choice in ("fit", "none") else "none"
        choice = {name: "none" if name in replaced else others.get(name, everywhere) for name in scalars}
    elif finetune.replay is not None:
        heads = heads_of(structures)
        by_head = isinstance(choice, Mapping) and any(name in heads for name in choice)
        choice = dict(choice) if by_head else dict.fromkeys(heads, choice)
        choice[finetune.replay.head] = "none"
    data = run.data.model_copy(update={"reference_energies": choice})
    measured = facts_of(structures, run.model_copy(update={"data": data}))
    for name, reference in measured.reference_energies.items():
        level, _, target = name.rpartition("/")
        if target not in replaced or choice_of(finetune, level) == "data":
            log.show(reference.table())
    for note in measured.notes:
        if not replaced:
            log.line(note)
    return measured


def combined_facts(run: TrainingRun, source: Mace, measured: Measured, carried: Collection[str]) -> DatasetFacts:
    """Facts of the new model: the trained model's where its heads are taken over, else those of the data.

    Args:
        run: The run.
        source: The trained model, for the elements of the new one.
        measured: Facts of the data.
        carried: Targets whose heads are taken over.
    """
    assert run.finetune is not None
    found = measured.facts
    names = list(found.heads) or [""]
    levels = {
        name: _level(level, source, carried, choice_of(run.finetune, name), run)
        for name, level in zip(names, found.levels(), strict=True)
    }
    common = {"elements": source.facts.elements, "avg_num_neighbours": source.facts.avg_num_neighbours}
    if len(levels) > 1:
        empty: dict[str, Any] = {"reference_energies": {}, "scale": {}, "shift": {}}
        return found.model_copy(update={**common, **empty, "heads": levels})
    only = levels[names[0]]
    return found.model_copy(update={**common, **{field: getattr(only, field) for field in LevelFacts.model_fields}})


def given_energies(run: TrainingRun, target: str) -> dict[int, float]:
    """E0 by atomic number where `data.reference_energies` gives them by symbol for all levels, eV; else nothing."""
    given: Any = run.data.reference_energies
    if isinstance(given, Mapping) and target in given:
        given = given[target]
    elif target != run.data.targets.energy:
        return {}
    if not (isinstance(given, Mapping) and is_by_symbol(given)):
        return {}
    return {number: float(value) for key, value in given.items() if (number := atomic_number_of(key)) is not None}


def _level(
    level: DatasetFacts, source: Mace, carried: Collection[str], choice: str | None, run: TrainingRun
) -> LevelFacts:
    """What one level of theory has of its own; elements that the data lacks have the E0 that are given, or none."""
    elements, kinds = source.facts.elements, level.targets.kinds()
    energies = {}
    for target, values in level.reference_energies.items():
        known = given_energies(run, target) | dict(zip(level.elements, values, strict=True))
        energies[target] = [known.get(number, 0.0) for number in elements]
    scale, shift = dict(level.scale), dict(level.shift)
    for target in carried:
        scale[target], constant = scale_and_shift(source.config, source.facts, target)
        if "scalar" in kinds[target]:
            shift[target] = constant
        if choice != "data" and target in energies:
            energies[target] = list(source.facts.reference_energies.get(target, [0.0] * len(elements)))
    return LevelFacts(reference_energies=energies, scale=scale, shift=shift)


def with_reference_energies(
    run: TrainingRun, model: Mace, source: Mace, structures: Sequence[Structure], carried: Collection[str], log: RunLog
) -> Mace:
    """The model with the E0 that were chosen, and tables of what they leave over.

    Args:
        run: The run.
        model: With the weights that training starts with.
        source: The trained model.
        structures: Training structures.
        carried: Targets whose heads were taken over.
        log: Where the tables go.
    """
    assert run.finetune is not None
    for level in list(model.facts.heads) or [""]:
        choice = choice_of(run.finetune, level) or "keep"
        own = of_head(structures, level) if len(model.facts.heads) > 1 else list(structures)
        for target in [name for name in model.facts.targets.y_graph_scalars if name in carried]:
            elements, now = model.facts.elements, _energies(model, level, target)
            known = source.facts.reference_energies.get(target, [0.0] * len(source.facts.elements))
            before = dict(zip(source.facts.elements, known, strict=True))
            start = [before.get(number, 0.0) for number in elements]
            errors = errors_of(_with_energies(model, level, target, start), own, target)
            if choice != "data":
                now = _chosen(run, model, level, target, own, before, refits=choice == "refit")
            title = f"{TITLES[choice]}" + (f", head '{level}'" if len(model.facts.heads) > 1 else "")
            log.show(residual_table(target, elements, before, now, errors, title))
            model = _with_energies(model, level, target, now)
    return model


def _chosen(
    run: TrainingRun,
    model: Mace,
    level: str,
    target: str,
    structures: Sequence[Structure],
    before: Mapping[int, float],
    *,
    refits: bool,
) -> list[float]:
    """E0 of the trained model; of new elements those that are given, or what the errors leave to them."""
    given = given_energies(run, target)
    start, free = [], []
    for row, number in enumerate(model.facts.elements):
        is_given = number not in before and number in given
        start.append(given[number] if is_given else before.get(number, 0.0))
        if refits or not (is_given or number in before):
            free.append(row)
    errors = errors_of(_with_energies(model, level, target, start), structures, target)
    return [value + float(change) for value, change in zip(start, refitted(errors, free), strict=True)]


def _energies(model: Mace, level: str, target: str) -> list[float]:
    facts = model.facts.at_head(level) if level else model.facts
    return list(facts.reference_energies.get(target, [0.0] * len(facts.elements)))


def _with_energies(model: Mace, level: str, target: str, energies: Sequence[float]) -> Mace:
    """The same model with other reference energies of one target at one level of theory."""
    if list(energies) == _energies(model, level, target):
        return model
    facts, changed = model.facts, {target: [float(value) for value in energies]}
    if len(facts.heads) > 1:
        own = facts.heads[level]
        own = own.model_copy(update={"reference_energies": own.reference_energies | changed})
        facts = facts.model_copy(update={"heads": facts.heads | {level: own}})
    else:
        facts = facts.model_copy(update={"reference_energies": facts.reference_energies | changed})
    other = build_model(model.config.name, model.config, facts, dtype=model.dtype)
    other.load_state_dict(model.state_dict())
    return other
