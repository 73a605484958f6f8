"""The model that training starts with: fresh, or from a trained model with what the run adds to it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ase.data import atomic_numbers, chemical_symbols

from macekit.config import DatasetFacts, FinetuneConfig, TrainingRun
from macekit.errors import ConfigError, did_you_mean
from macekit.model.build import build_model
from macekit.model.elements import for_elements
from macekit.model.mace import Mace
from macekit.training.distributed import World
from macekit.training.preparation import DTYPES, RunData, built_model, measured_facts
from macekit.training.run_directory import RunLog
from macekit.training.trainable import part_of
from macekit.training.transfer.facts import combined_facts, given_energies, measured_for, with_reference_energies
from macekit.training.transfer.matching import OUTPUT_OF_HEAD, Matched, matched
from macekit.training.transfer.sections import completed, tuner_of, without_other_tuner
from macekit.training.transfer.source import Source, read_source


def opened(run: TrainingRun, log: RunLog) -> tuple[TrainingRun, Source | None]:
    """The run with everything that it leaves to the trained model it starts from, and that model.

    Raises:
        ModelFileError: If the trained model cannot be read.
        ConfigError: If a section contradicts it.
    """
    if run.finetune is None:
        return run, None
    source = read_source(run.finetune)
    count = sum(parameter.numel() for parameter in source.model.parameters())
    kind = source.provenance.get("converted_from", "macekit")
    log.line(
        f"fine-tuning from {source.path} ({kind}): {len(source.model.facts.elements)} elements, {count:,} parameters, "
        f"hidden {source.model.config.hidden_irreps}, cutoff {source.model.facts.cutoff:g} Å"
    )
    model = without_other_tuner(source.model, tuner_of(run, source.model))
    return completed(run, model), source._replace(model=model)


def initial_model(run: TrainingRun, source: Source | None, data: RunData, world: World, log: RunLog) -> Mace:
    """The model with the weights that training starts with, on this process's device.

    Args:
        run: Completed by `opened`.
        source: The trained model, if there is one.
        data: Structures of the run.
        world: Processes.
        log: Where facts and choices are printed.

    Raises:
        ConfigError: If weights cannot be taken over as asked for.
    """
    if source is None:
        return built_model(run, measured_facts(run, data, world, log), world, log)
    finetune = run.finetune
    assert finetune is not None
    elements = _elements(finetune, source.model, data.elements())
    adapted = for_elements(source.model, elements)
    for number, relative in adapted.relatives.items():
        log.line(f"new element {chemical_symbols[number]}: starts with the weights of {chemical_symbols[relative]}")
    of_elements = {field: getattr(adapted.model.config, field) for field in ("radial_constants", "node_normalisation")}
    run = run.model_copy(update={"model": run.model.model_copy(update=of_elements)})
    carried = carried_targets(run, source.model)
    measured = measured_for(run, data.train, carried, log)
    facts = combined_facts(run, adapted.model, measured, carried)
    fresh = build_model(run.model.name, run.model, facts, seed=run.run.seed, dtype=adapted.model.dtype)
    found = matched(fresh, adapted.model, finetune.modules_to_match)
    assert found.targets == carried
    fresh.load_state_dict(found.state)
    model = with_reference_energies(run, fresh, source.model, data.sample(), carried, log)
    facts = DatasetFacts.from_dict(json.loads(world.shared(model.facts.model_dump_json())))
    final = build_model(run.model.name, run.model, facts, dtype=model.dtype)
    final.load_state_dict(found.state)
    _report(found, log)
    return final.to(device=world.device, dtype=DTYPES[run.run.dtype])


def new_element_rows(model: Mace, source: Source | None) -> list[int]:
    """Indices of the elements that the trained model did not know."""
    if source is None:
        return []
    return [row for row, number in enumerate(model.facts.elements) if number not in source.model.facts.elements]


def further_elements(run: TrainingRun, source: Source | None) -> set[int]:
    """Elements that the new model will know whatever the training structures have: weights and E0 are there.

    They are what `finetune.elements` keeps of the trained model. Where the E0 are those of the data section, only
    elements that it gives a value.
    """
    finetune = run.finetune
    if source is None or finetune is None or finetune.elements == "data":
        return set()
    known = set(source.model.facts.elements)
    kept = known if finetune.elements == "all" else known & _chosen_elements(finetune.elements)
    carried = carried_targets(run, source.model)
    for target in run.data.targets.y_graph_scalars:
        if target not in carried or finetune.reference_energies == "data":
            kept = kept & set(given_energies(run, target))
    return kept


def carried_targets(run: TrainingRun, source: Mace) -> set[str]:
    """Targets whose heads are taken over, with their scales and shifts."""
    assert run.finetune is not None
    modules = run.finetune.modules_to_match
    here, there = run.data.targets, source.facts.targets
    carried: set[str] = set()
    for head, output in OUTPUT_OF_HEAD.items():
        if modules is not None and modules.get(f"{head}_head") != f"{head}_head":
            continue
        if head == "node_vector" and (run.model.compute_forces or source.config.compute_forces):
            continue
        if source.config.compatibility != "none" and head not in ("graph_scalars", "node_scalars"):
            continue
        ours, theirs = ([value] if isinstance(value, str) else value or [] for value in
                        (getattr(here, output), getattr(there, output)))  # fmt: skip
        carried |= set(ours) & set(theirs) if head != "graph_scalars_std" else set()
    return carried


def _elements(finetune: FinetuneConfig, source: Mace, data: Sequence[int]) -> list[int]:
    if finetune.elements == "data":
        return sorted(data)
    if finetune.elements == "all":
        return sorted({*source.facts.elements, *data})
    chosen = _chosen_elements(finetune.elements)
    if missing := [chemical_symbols[number] for number in data if number not in chosen]:
        raise ConfigError(f"finetune.elements: {', '.join(missing)} of the training data is not listed; add it")
    return sorted(chosen)


def _chosen_elements(symbols: Sequence[str]) -> set[int]:
    """Atomic numbers of `finetune.elements` as a list."""
    unknown = [symbol for symbol in symbols if symbol not in chemical_symbols[1:]]
    if unknown:
        raise ConfigError(
            f"finetune.elements: '{unknown[0]}' is no chemical symbol; expected data, all, or a list of symbols",
            did_you_mean(unknown[0], [*chemical_symbols[1:], "data", "all"]),
        )
    return {int(atomic_numbers[symbol]) for symbol in symbols}


def _report(found: Matched, log: RunLog) -> None:
    """What was taken over and what is fresh."""
    parts: dict[tuple[bool, str], int] = {}
    for name, value in found.state.items():
        part = name in found.taken, part_of(name)
        parts[part] = parts.get(part, 0) + value.numel()
    taken, fresh = (
        ", ".join(f"{part} {count:,}" for (is_taken, part), count in parts.items() if is_taken == wanted)
        for wanted in (True, False)
    )
    log.line(f"taken over from the trained model: {taken or 'nothing'}" + (f"; fresh: {fresh}" if fresh else ""))
