"""The model that training starts with: fresh, or from a trained model with what the run adds to it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from ase.data import atomic_numbers, chemical_symbols

from macekit.config import DatasetFacts, FinetuneConfig, TrainingRun
from macekit.errors import ConfigError, did_you_mean
from macekit.geometry.statistics import Measured
from macekit.geometry.stored_statistics import facts_of
from macekit.model.build import build_model, scale_and_shift
from macekit.model.elements import for_elements
from macekit.model.mace import Mace
from macekit.training.distributed import World
from macekit.training.preparation import DTYPES, RunData, built_model, measured_facts
from macekit.training.run_directory import RunLog
from macekit.training.trainable import part_of
from macekit.training.transfer.matching import OUTPUT_OF_HEAD, Matched, matched
from macekit.training.transfer.reference import errors_of, refitted, residual_table
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
    measured = _measured(run, data, carried, log)
    facts = _facts(run, adapted.model, measured, elements, carried)
    fresh = build_model(run.model.name, run.model, facts, seed=run.run.seed, dtype=adapted.model.dtype)
    found = matched(fresh, adapted.model, finetune.modules_to_match)
    assert found.targets == carried
    fresh.load_state_dict(found.state)
    model = _with_reference_energies(run, fresh, source.model, data, carried, log)
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
    unknown = [symbol for symbol in finetune.elements if symbol not in chemical_symbols[1:]]
    if unknown:
        raise ConfigError(
            f"finetune.elements: '{unknown[0]}' is no chemical symbol; expected data, all, or a list of symbols",
            did_you_mean(unknown[0], [*chemical_symbols[1:], "data", "all"]),
        )
    chosen = {int(atomic_numbers[symbol]) for symbol in finetune.elements}
    if missing := [chemical_symbols[number] for number in data if number not in chosen]:
        raise ConfigError(f"finetune.elements: {', '.join(missing)} of the training data is not listed; add it")
    return sorted(chosen)


def _measured(run: TrainingRun, data: RunData, carried: set[str], log: RunLog) -> Measured:
    """Facts of the data; reference energies that come from the trained model are not asked of them."""
    assert run.finetune is not None
    scalars = run.data.targets.y_graph_scalars
    replaced = [name for name in scalars if name in carried]
    if replaced and run.finetune.reference_energies is None:
        raise ConfigError(
            f"finetune.reference_energies: required, because the head of {', '.join(replaced)} is taken over: keep (E0 "
            "of the trained model, for data of its level of theory), refit (so that its errors on the training data "
            "are smallest), or data (as data.reference_energies says)"
        )
    if not replaced or run.finetune.reference_energies == "data":
        measured = facts_of(data.train, run)
        shown = list(measured.reference_energies.values())
        notes = [note for note in measured.notes if not (replaced and note.startswith("scaling_"))]
    else:
        choice = run.data.reference_energies
        others = dict(choice) if isinstance(choice, dict) and any(name in choice for name in scalars) else {}
        everywhere = choice if choice in ("fit", "none") else "none"
        choices = {name: "none" if name in replaced else others.get(name, everywhere) for name in scalars}
        plain = run.data.model_copy(update={"reference_energies": choices})
        measured = facts_of(data.train, run.model_copy(update={"data": plain}))
        shown = [found for name, found in measured.reference_energies.items() if name not in replaced]
        notes = []
    for reference in shown:
        log.show(reference.table())
    for note in notes:
        log.line(note)
    return measured


def _facts(
    run: TrainingRun, source: Mace, measured: Measured, elements: Sequence[int], carried: set[str]
) -> DatasetFacts:
    """Facts of the new model: the trained model's where its heads are taken over, else those of the data."""
    assert run.finetune is not None
    keeps = run.finetune.reference_energies != "data"
    own = dict.fromkeys(elements, 0.0)
    energies = {
        target: list((own | dict(zip(measured.facts.elements, values, strict=True))).values())
        for target, values in measured.facts.reference_energies.items()
    }
    scale, shift = dict(measured.facts.scale), dict(measured.facts.shift)
    for target in carried:
        scale[target], shift[target] = scale_and_shift(source.config, source.facts, target)
        if keeps and target in energies:
            energies[target] = list(source.facts.reference_energies.get(target, [0.0] * len(elements)))
    changes = {
        "elements": list(elements),
        "avg_num_neighbours": source.facts.avg_num_neighbours,
        "reference_energies": energies,
        "scale": scale,
        "shift": {target: value for target, value in shift.items() if "scalar" in run.data.targets.kinds()[target]},
    }
    return measured.facts.model_copy(update=changes)


def _with_reference_energies(
    run: TrainingRun, model: Mace, source: Mace, data: RunData, carried: set[str], log: RunLog
) -> Mace:
    """The model with the E0 that were chosen, and the table of what they leave over."""
    assert run.finetune is not None
    choice = run.finetune.reference_energies
    for target in [name for name in model.facts.targets.y_graph_scalars if name in carried]:
        elements = model.facts.elements
        before = dict(zip(source.facts.elements, source.facts.reference_energies.get(target, []), strict=False))
        now = list(model.facts.reference_energies.get(target, [0.0] * len(elements)))
        start = [before.get(number, 0.0) for number in elements]
        errors = errors_of(_with_energies(model, target, start), data.sample(), target)
        if choice != "data":
            given = run.data.reference_energies
            values = given if isinstance(given, dict) and target == model.facts.targets.energy else {}
            for row, number in enumerate(elements):
                value = values.get(chemical_symbols[number])
                if number not in before and isinstance(value, (int, float)):
                    now[row] = start[row] = float(value)
            known = {row for row, number in enumerate(elements) if number in before or now[row] != 0.0}
            free = [row for row in range(len(elements)) if choice == "refit" or row not in known]
            present = errors_of(_with_energies(model, target, start), data.sample(), target)
            now = [value + float(change) for value, change in zip(start, refitted(present, free), strict=True)]
        title = {"keep": "kept", "refit": "refitted to the errors of the trained model", "data": "of the data section"}
        log.show(residual_table(target, elements, before, now, errors, title[choice or "keep"]))
        model = _with_energies(model, target, now)
    return model


def _with_energies(model: Mace, target: str, energies: Sequence[float]) -> Mace:
    """The same model with other reference energies of one target."""
    if list(energies) == model.facts.reference_energies.get(target):
        return model
    reference = {**model.facts.reference_energies, target: [float(value) for value in energies]}
    facts = model.facts.model_copy(update={"reference_energies": reference})
    changed = build_model(model.config.name, model.config, facts, dtype=model.dtype)
    changed.load_state_dict(model.state_dict())
    return changed


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
