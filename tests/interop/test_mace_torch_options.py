"""Fresh models of mace-torch 0.3.16 with every option: energies, forces, and the features block by block."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import Tensor, nn

from macekit.data import Structure
from macekit.geometry.graph import Graph, collate
from macekit.geometry.neighbours import graph_for
from macekit.interop.mace_torch.convert import read_mace_torch
from macekit.interop.native import load_native, save_native
from macekit.model.mace import Mace
from macekit.model.selection import at_head
from macekit.outputs.derivatives import evaluate

FIXTURES = Path(__file__).parent / "fixtures"
NAMES = sorted(path.stem for path in FIXTURES.glob("*.npz"))
STRUCTURES = ("molecule", "crystal", "atom", "pair")
TOLERANCE = 2e-12
"""Of energies per atom, forces and features relative to the largest; the bars are 1e-9 eV and 1e-8 eV/Å."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    for path in FIXTURES.glob("*.tar.xz"):
        with tarfile.open(path) as archive:
            archive.extractall(folder, filter="data")
    return folder


@cache
def expected(name: str) -> dict[str, np.ndarray]:
    with np.load(FIXTURES / f"{name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def heads(name: str) -> list[str]:
    return sorted({key.split("/")[0] for key in expected(name) if key.count("/") == 2})


def graph_of(name: str, label: str, model: Mace, head: str = "") -> Graph:
    stored = expected(name)
    numbers, positions, cell, pbc = (stored[f"{label}/{key}"] for key in ("numbers", "positions", "cell", "pbc"))
    structure = Structure.from_ase(Atoms(numbers, positions, cell=cell, pbc=pbc)).with_head(head)
    return graph_for(structure, model.facts)


def outputs(model: Mace, name: str, label: str) -> dict[str, Tensor]:
    """Energy, forces, and what every interaction and product puts out."""
    graph = graph_of(name, label, model)
    found: dict[str, Tensor] = {}

    def keep(what: str, module: nn.Module) -> torch.utils.hooks.RemovableHandle:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            found[what] = output.detach()[inputs[1].position]  # the backbone has atoms in the order of their classes

        return module.register_forward_hook(hook)

    layers = list(enumerate(model.backbone.layers))
    hooks = [keep(f"interaction{i}", layer.interaction) for i, layer in layers]
    hooks += [keep(f"product{i}", layer) for i, layer in layers]
    found |= evaluate(model, graph, forces=model.config.compute_forces, stress=False)
    for hook in hooks:
        hook.remove()
    return found


def features(found: Tensor, stored: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of ours [N, D, K] and theirs: [N, K, D] of interactions, [N, ΣK(2l+1)] of products."""
    ours = found.numpy()
    if stored.ndim == 3:
        yield ours, stored.transpose(0, 2, 1)
        return
    column = 0
    row = max(0, ours.shape[1] - stored.shape[1] // ours.shape[2])  # 1 where the file's last layer has vectors alone
    while row < ours.shape[1]:  # degrees 0, 1, 2; the file's last layer may have further ones that nothing reads
        dim, channels = 2 * round(row**0.5) + 1, ours.shape[2]
        theirs = stored[:, column : column + dim * channels].reshape(-1, channels, dim)
        yield ours[:, row : row + dim], theirs.transpose(0, 2, 1)
        row, column = row + dim, column + dim * channels


def assert_equal(found: np.ndarray, stored: np.ndarray, tolerance: float, what: str) -> None:
    scale = max(1.0, np.abs(stored).max(initial=0.0))
    assert found.shape == stored.shape, what
    assert np.abs(found - stored).max(initial=0.0) <= tolerance * scale, what


@pytest.mark.parametrize("name", NAMES)
def test_the_model_computes_the_same(name: str, files: Path) -> None:
    stored = expected(name)
    tolerance = TOLERANCE
    for head in heads(name):
        model, _ = read_mace_torch(files / f"{name}.model", head=head)
        for label in STRUCTURES:
            found, what = outputs(model.eval(), name, label), f"{name} {head} {label}"
            for i in range(len(model.backbone.layers)):
                for kind in ("interaction", "product"):
                    for ours, theirs in features(found[f"{kind}{i}"], stored[f"{head}/{label}/{kind}{i}"]):
                        assert_equal(ours, theirs, tolerance, f"{what} {kind} {i}")
            for key, name_of_ours in (("energy", "y_graph_scalars"), ("dipole", "y_graph_vector")):
                if f"{head}/{label}/{key}" in stored:
                    theirs = stored[f"{head}/{label}/{key}"]
                    assert_equal(found[name_of_ours].numpy().reshape(theirs.shape), theirs, tolerance, f"{what} {key}")
            if f"{head}/{label}/forces" in stored:
                assert_equal(found["y_node_vector"].numpy(), stored[f"{head}/{label}/forces"], tolerance, what)


def test_there_are_fixtures_of_every_option() -> None:
    assert len(NAMES) >= 42


@pytest.mark.parametrize("name", NAMES)
def test_the_native_file_keeps_everything(name: str, files: Path, tmp_path: Path) -> None:
    model, provenance = read_mace_torch(files / f"{name}.model", head=heads(name)[0])
    again = load_native(save_native(model, tmp_path / "model", provenance=provenance))
    for label in STRUCTURES:
        before, after = (outputs(m.eval(), name, label) for m in (model, again))
        assert before.keys() == after.keys()
        assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("name", NAMES)
def test_chosen_elements_predict_the_same(name: str, files: Path) -> None:
    whole, part = (
        read_mace_torch(files / f"{name}.model", head=heads(name)[0], elements=chosen)[0] for chosen in (None, [8, 6])
    )
    assert part.facts.elements == [6, 8]
    for label in ("atom", "pair"):
        before, after = (outputs(m.eval(), name, label) for m in (whole, part))
        for key, value in before.items():
            assert torch.equal(after[key], value), key  # to the last bit


@pytest.mark.parametrize("name", [name for name in NAMES if len(heads(name)) > 1])
def test_all_heads_in_one_model(name: str, files: Path, tmp_path: Path) -> None:
    """A batch with every structure at every level of theory; the same from the native file, and from one level."""
    whole = load_native(save_native(read_mace_torch(files / f"{name}.model")[0], tmp_path / "model"))
    stored, names = expected(name), list(whole.facts.heads)
    assert sorted(names) == heads(name)
    pairs = [(head, label) for label in STRUCTURES for head in names]
    found = evaluate(whole, collate([graph_of(name, label, whole, head) for head, label in pairs]), stress=False)
    sizes = [len(stored[f"{label}/numbers"]) for _, label in pairs]
    forces = found["y_node_vector"].split(sizes)
    for row, (head, label) in enumerate(pairs):
        what = f"{name} {head} {label}"
        energy, stored_energy = found["y_graph_scalars"][row].numpy(), stored[f"{head}/{label}/energy"]
        assert_equal(energy, stored_energy, TOLERANCE, what)
        assert_equal(forces[row].numpy(), stored[f"{head}/{label}/forces"], TOLERANCE, what)
    for head in names:
        alone, direct = at_head(whole, head), read_mace_torch(files / f"{name}.model", head=head)[0]
        assert alone.facts == direct.facts.model_copy(update={"heads": alone.facts.heads, "default_head": head})
        assert alone.config == direct.config
        assert all(torch.equal(value, direct.state_dict()[key]) for key, value in alone.state_dict().items())


def test_the_default_head_is_the_one_of_that_name(files: Path) -> None:
    assert read_mace_torch(files / "heads.model")[0].facts.default_head == "Default"
    assert read_mace_torch(files / "biased_readout_heads.model")[0].facts.default_head is None
