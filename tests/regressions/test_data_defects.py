# ruff: noqa: RUF043
"""What existing packages get wrong with data; one test per entry of the list of defects."""

import copy

import numpy as np
import pytest
from ase import Atoms
from ase.build import fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from macekit.config import DataConfig
from macekit.data import (
    EpochSampler,
    Structure,
    as_structures,
    draw_split,
    read_structures,
    resolve_reference_energies,
    separate_isolated_atoms,
)
from macekit.errors import DataError


def labelled(count=4, **info):
    """Water molecules with energy and forces where ASE puts them."""
    frames = []
    for index in range(count):
        atoms = molecule("H2O")
        atoms.positions[1, 1] += 0.01 * index
        atoms.calc = SinglePointCalculator(atoms, energy=-14.0 - index, forces=np.full((3, 3), 0.1 * index))
        atoms.info.update(info)
        frames.append(atoms)
    return frames


def config(file, **fields):
    return DataConfig(**({"train": [str(file)], "targets": {"y_node_vector": "forces"}} | fields))


def test_p10_labels_keep_double_precision(tmp_path):
    """P10: labels were rounded to float32 on reading."""
    atoms = molecule("H2O")
    atoms.info["REF_energy"] = -1259.4352931409087
    write(tmp_path / "a.extxyz", atoms)
    label = read_structures(tmp_path / "a.extxyz", config("a", targets={})).structures[0].targets["energy"]
    assert label.dtype == np.float64
    assert float(label) == -1259.4352931409087


def test_p12_m12_pain20_batch_larger_than_the_data_is_one_step():
    """P12, M12, pain 20: batch_size > data set trained nothing, or crashed; the last batch was dropped."""
    assert [sorted(batch) for batch in EpochSampler([3, 4, 5], batch_size=64)] == [[0, 1, 2]]
    assert sorted(i for batch in EpochSampler([1] * 7, batch_size=3) for i in batch) == list(range(7))
    parts = [list(EpochSampler([1] * 7, batch_size=3, rank=rank, world_size=2)) for rank in range(2)]
    assert sorted(i for part in parts for batch in part for i in batch) == list(range(7))
    assert len(parts[0]) == len(parts[1]) == 3


def test_p16_partial_periodicity_and_cells_belong_to_the_structure(tmp_path):
    """P16: one cell for the whole data set; partial pbc became none."""
    slab, wire = fcc111("Al", (1, 1, 2), vacuum=5.0), Atoms("Cu", cell=[2.5, 9, 9], pbc=[True, False, False])
    frames = [slab, wire, molecule("H2O")]
    for atoms in frames:
        atoms.info = {"REF_energy": -1.0}
    write(tmp_path / "a.extxyz", frames)
    structures = read_structures(tmp_path / "a.extxyz", config("a", targets={})).structures
    assert [s.pbc.tolist() for s in structures] == [[True, True, False], [True, False, False], [False] * 3]
    np.testing.assert_allclose(structures[0].cell, slab.cell[:], atol=1e-7)
    np.testing.assert_allclose(structures[1].cell, wire.cell[:])


def test_p21_neither_configuration_nor_atoms_are_changed(tmp_path):
    """P21: reading changed the caller's configuration and data set."""
    frames = labelled(kind="x")
    file = tmp_path / "a.extxyz"
    write(file, frames)
    settings = config(file, units={"energy": "hartree", "length": "bohr"}, keys={"energy": "energy"})
    before = settings.model_dump()
    read_structures(file, settings)
    assert settings.model_dump() == before
    atoms = frames[0]
    twin = copy.deepcopy(atoms)
    as_structures([atoms])
    assert atoms == twin
    assert atoms.info == twin.info
    assert atoms.calc.results.keys() == twin.calc.results.keys()


def test_pain_6_labels_in_the_calculator_are_found(tmp_path):
    """Pain 6: ASE moves `energy` and `forces` to the calculator, where they were not looked for."""
    write(tmp_path / "a.extxyz", labelled())
    found = read_structures(tmp_path / "a.extxyz", config("a"))
    assert found.census["energy"].found == found.census["forces"].found == 4
    assert "calculator" in next(iter(found.census["energy"].keys))


def test_pain_6_training_without_labels_is_refused(tmp_path):
    """Pain 6: a key that no frame has gave loss 0 or NaN and a useless model."""
    write(tmp_path / "a.extxyz", labelled())
    with pytest.raises(DataError, match="no frame has a label for target 'energy' .*keys present"):
        read_structures(tmp_path / "a.extxyz", config("a", keys={"energy": "REF_energy"}))


def test_pain_8_stress_and_virial_signs(tmp_path):
    """Pain 8: sign and unit of virials; the stress is −virial / volume and a contradiction is reported."""
    atoms = fcc111("Al", (1, 1, 2), a=4.05, vacuum=5.0)
    atoms.pbc = True
    atoms.info = {
        "REF_energy": -1.0,
        "REF_stress": np.eye(3) * 0.1,
        "REF_virials": np.eye(3) * 0.1 * atoms.get_volume(),
    }
    write(tmp_path / "a.extxyz", [atoms])
    targets = {"stress": "stress"}
    assert any(
        "opposite signs" in w for w in read_structures(tmp_path / "a.extxyz", config("a", targets=targets)).warnings
    )
    by_virial = read_structures(tmp_path / "a.extxyz", config("a", targets=targets, keys={"stress": "REF_virials"}))
    np.testing.assert_allclose(by_virial.structures[0].targets["stress"], -np.eye(3) * 0.1, atol=1e-6)


def test_pain_9_missing_labels_are_not_zeros(tmp_path):
    """Pain 9: a frame without a label crashed, or its label became zero."""
    frames = labelled()
    frames[1].calc = None
    write(tmp_path / "a.extxyz", frames)
    structures, census, _ = read_structures(tmp_path / "a.extxyz", config("a"))
    assert "energy" not in structures[1].targets
    assert census["energy"].missing == 1
    fitted = resolve_reference_energies("fit", config("a").targets, structures, [1, 8])["energy"]
    assert np.isfinite(fitted.values).all()


def test_pain_10_undetermined_reference_energies_are_said(tmp_path):
    """Pain 10: rank-deficient fits gave elements a silent zero; here what is open is named."""
    write(tmp_path / "a.extxyz", labelled())
    structures = read_structures(tmp_path / "a.extxyz", config("a")).structures
    fitted = resolve_reference_energies("fit", config("a").targets, structures, [1, 8])["energy"]
    assert fitted.rank == 1
    assert fitted.undetermined == ("E0(H) − 1 with E0(O) + 2",)
    assert np.abs(fitted.values).min() > 0.1
    with pytest.raises(DataError, match="no value for O"):
        resolve_reference_energies({"H": -13.6}, config("a").targets, structures, [1, 8])


def test_pain_11_single_atoms_are_ordinary_frames(tmp_path):
    """Pain 11: frames of one atom were dropped, or taken as reference energies without being asked."""
    atom = Atoms("O")
    atom.info["REF_energy"] = -2040.0
    crystal = Atoms("Po", cell=np.eye(3) * 3.3, pbc=True)
    crystal.info["REF_energy"] = -5.0
    write(tmp_path / "a.extxyz", [atom, crystal])
    structures = read_structures(tmp_path / "a.extxyz", config("a", targets={})).structures
    assert [len(s) for s in structures] == [1, 1]
    isolated, rest = separate_isolated_atoms(structures)
    assert [s.formula for s in isolated] == ["O"]
    assert [s.formula for s in rest] == ["Po"]


def test_split_of_too_few_frames_is_a_clear_error():
    """Bare AssertionError where a validation fraction left no frame."""
    with pytest.raises(DataError, match="a fraction of 0.1 of 1 structure leaves none for validation"):
        draw_split([Structure([1], [[0, 0, 0]])], 0.1, 0)


def test_bad_numbers_never_reach_training(tmp_path):
    """NaN energies, forces and positions trained a NaN model with exit code 0."""
    for change in ("energy", "forces", "positions"):
        frames = labelled()
        if change == "energy":
            frames[2].calc.results["energy"] = np.nan
        elif change == "forces":
            frames[2].calc.results["forces"][1, 1] = np.nan
        else:
            frames[2].positions[0, 0] = np.nan
            frames[2].calc.atoms = frames[2].copy()
        write(tmp_path / "a.traj", frames)
        with pytest.raises(DataError, match="a.traj frame 2"):
            read_structures(tmp_path / "a.traj", config("a"))
