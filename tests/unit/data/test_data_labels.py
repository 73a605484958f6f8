# ruff: noqa: RUF043
"""Labels: keys, places, shapes, units, weights, census and warnings."""

import json

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write as ase_write
from extxyz_frames import config, water, write
from rich.console import Console

from macekit.config import SourceConfig
from macekit.data import read_structures
from macekit.errors import ConfigError, DataError


def read(path, labels="all", optional=(), **fields):
    return read_structures(path, config(path, **fields), labels=labels, optional=optional)


def crystals(path, count=3, **info):
    """Copper cells with labels in `info` and `arrays`, by key."""
    frames = []
    for index in range(count):
        atoms = bulk("Cu", cubic=True)
        atoms.positions[0, 0] += 0.01 * index
        for key, value in info.items():
            if np.shape(value)[:1] == (4,):
                atoms.arrays[key] = np.asarray(value)
            else:
                atoms.info[key] = value
        frames.append(atoms)
    ase_write(path, frames, format="extxyz")
    return path


FORCES = np.full((4, 3), 0.5)


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("energy", "calculator"),
        ("REF_energy", "info"),
        ("E", "info"),
        ("U0", "info"),
        ("total_energy", "info"),
        ("free_energy", "calculator"),
    ],
)
def test_energy_is_found_by_its_usual_names(tmp_path, key, place):
    found = read(crystals(tmp_path / "a.xyz", **{key: -3.5, "REF_forces": FORCES}))
    assert found.census["energy"].keys == {f"{key} ({place})": 3}
    assert float(found.structures[0].targets["energy"]) == -3.5
    assert found.census["forces"].keys == {"REF_forces (arrays)": 3}


def test_every_kind_of_target(tmp_path):
    file = crystals(
        tmp_path / "a.xyz",
        REF_energy=-1.0,
        gap=2.5,
        REF_dipole_eA=[1.0, 2.0, 3.0],
        REF_charges=[0.1, 0.2, -0.1, -0.2],
        shift=[1.0, np.nan, 3.0, 4.0],
        REF_forces=FORCES,
        REF_stress=np.eye(3) * 0.1,
    )
    targets = {
        "y_graph_scalars": ["energy", "gap"],
        "y_graph_vector": "dipole",
        "y_node_scalars": ["charges", "shift"],
        "y_node_vector": "forces",
        "stress": "stress",
    }
    structures, census, warnings = read(file, targets=targets)
    shapes = {name: value.shape for name, value in structures[0].targets.items()}
    assert shapes == {
        "energy": (),
        "gap": (),
        "dipole": (3,),
        "charges": (4,),
        "shift": (4,),
        "forces": (4, 3),
        "stress": (3, 3),
    }
    assert np.isnan(structures[0].targets["shift"][1])
    assert census["shift"].mean == pytest.approx(8 / 3)
    assert not warnings
    assert all(value.dtype == np.float64 and not value.flags.writeable for value in structures[0].targets.values())


def test_declared_key_wins(tmp_path):
    file = crystals(tmp_path / "a.xyz", energy=-1.0, REF_energy=-2.0, cheap=-3.0, forces=FORCES)
    assert float(read(file, keys={"energy": "cheap"}).structures[0].targets["energy"]) == -3.0
    structures, _, warnings = read(file)
    assert float(structures[0].targets["energy"]) == -1.0
    assert any("target 'energy' is read from 'energy'; REF_energy is there too" in warning for warning in warnings)


def test_two_candidates_are_an_error_unless_equal(tmp_path):
    file = crystals(tmp_path / "a.xyz", REF_energy=-1.0, dft_energy=-2.0, forces=FORCES)
    with pytest.raises(
        DataError,
        match=r"several keys could be target 'energy': 'REF_energy' \(3 frames\), 'dft_energy' \(3 frames\)"
        r"(.|\n)*data.keys.energy: REF_energy",
    ):
        read(file)
    crystals(file, REF_energy=-1.0, dft_energy=-1.0, forces=FORCES)
    assert read(file).warnings == []


def test_exact_key_in_some_frames_only_is_ambiguous(tmp_path):
    file = write(tmp_path / "a.xyz", water("energy=-14"), water("REF_energy=-14.1"))
    with pytest.raises(DataError, match="several keys could be target 'energy'"):
        read(file)


def test_keys_are_chosen_file_by_file(tmp_path):
    one = write(tmp_path / "a.xyz", water("energy=-14"))
    two = write(tmp_path / "b.xyz", water("REF_energy=-15"))
    found = read_structures([one, two], config([one, two]))
    assert found.census["energy"].keys == {"energy (calculator)": 1, "REF_energy (info)": 1}
    assert found.census.files == {"a.xyz": 1, "b.xyz": 1}


def test_files_of_the_same_name_are_told_apart(tmp_path):
    (tmp_path / "b").mkdir()
    one, two = write(tmp_path / "a.xyz", water()), write(tmp_path / "b" / "a.xyz", water(shift=0.1))
    found = read_structures([one, two], config([one, two]))
    assert [s.source for s in found.structures] == ["a.xyz frame 0", f"{two} frame 0"]
    assert found.census.files == {"a.xyz": 1, str(two): 1}


def test_total_charge_is_not_taken_for_charges(tmp_path):
    file = crystals(tmp_path / "a.xyz", energy=-1.0, charge=1)
    with pytest.raises(DataError, match="no frame has a label for target 'charges'"):
        read(file, targets={"y_node_scalars": ["charges"]})


def test_initial_charges_are_not_labels(tmp_path):
    file = crystals(tmp_path / "a.xyz", energy=-1.0, initial_charges=np.ones(4))
    with pytest.raises(DataError, match="no frame has a label for target 'charges'"):
        read(file, targets={"y_node_scalars": ["charges"]})
    found = read(file, targets={"y_node_scalars": ["charges"]}, keys={"charges": "initial_charges"})
    assert found.census["charges"].found == 3


def test_absent_label_lists_the_keys_present(tmp_path):
    file = write(tmp_path / "a.xyz", water("my_energi=-14", name="Force_x"))
    with pytest.raises(DataError, match=r"no frame has a label for target 'energy' .*info: my_energi; arrays: Force_x"):
        read(file)
    with pytest.raises(DataError, match=r"looked for my_energy(.|\n)*did you mean 'my_energi'"):
        read(file, keys={"energy": "my_energy"})
    with pytest.raises(DataError, match="data.keys: 'enrgy' is no target(.|\n)*did you mean 'energy'"):
        read(file, keys={"enrgy": "my_energi"})


def test_forces_that_no_frame_has_come_with_what_to_change(tmp_path):
    file = write(tmp_path / "a.xyz", water(forces=False))
    with pytest.raises(DataError) as refused:
        read(file)
    changes = ("data.targets.y_node_vector=null", "model.y_node_vector_loss_config=null", "model.compute_forces=false")
    assert refused.value.hint.endswith("or learn energies alone: " + " ".join(changes))


def test_known_quantities_that_are_no_target_are_named(tmp_path):
    stress = {"virial": np.eye(3), "REF_dipole": np.ones(3), "charge": 1}  # a total charge is no label
    file = crystals(tmp_path / "a.xyz", energy=-1.0, bec=np.ones(4), **stress)
    found = read(file, targets={"y_graph_scalars": ["energy"]})
    assert found.census.not_learned == {"stress": ["virial"], "dipole": ["REF_dipole"]}
    assert found.census.to_dict()["not_learned"] == found.census.not_learned
    learned = read(file, targets={"y_graph_scalars": ["energy"], "y_graph_vector": "dipole", "stress": "stress"})
    assert learned.census.not_learned == {}


def test_absent_label_may_be_optional(tmp_path):
    file = write(tmp_path / "a.xyz", water(forces=False))
    with pytest.raises(DataError, match="target 'forces'"):
        read(file)
    for found in (read(file, optional=["forces"]), read(file, labels="any"), read(file, labels="none")):
        assert "forces" not in found.structures[0].targets
        assert (found.census["forces"].found, found.census["forces"].missing) == (0, 1)
    with pytest.raises(DataError, match="no frame has a label"):
        read(write(tmp_path / "b.xyz", water("x=1", forces=False)), labels="any")


def test_labels_missing_in_some_frames_are_counted(tmp_path):
    file = write(tmp_path / "a.xyz", water("energy=-14"), water(""), water("energy=-15", forces=False))
    structures, census, _ = read(file)
    assert [sorted(s.targets) for s in structures] == [["energy", "forces"], ["forces"], ["energy"]]
    assert (census["energy"].found, census["energy"].missing) == (2, 1)
    assert (census["forces"].found, census["forces"].missing) == (2, 1)
    assert (census["energy"].minimum, census["energy"].maximum, census["energy"].mean) == (
        -15.0,
        -14.0,
        -14.5,
    )


DAMAGED = {
    "energy=nan": "a.xyz frame 1: energy is NaN, expected a number",
    "energy=inf": "a.xyz frame 1: energy is infinite",
    'energy="-1 eV"': "frame 1: energy is the text '-1 eV', expected a number(.|\n)*write the number alone",
    "energy=-1,5": r"frame 1: energy has shape \[2\], expected \[\](.|\n)*decimal comma",
    "energy=1.0D+00": r"energy is the text '1.0D\+00'(.|\n)*replace D by E",
    "energy=******": "energy is the text(.|\n)*did not fit",
    'energy="1 2 3"': r"energy has shape \[3\]",
    "energy": "energy has no number",
    'energy="_JSON {}"': "energy is {}, expected numbers",
}


@pytest.mark.parametrize("info", DAMAGED)
def test_damaged_energies(tmp_path, info):
    file = write(tmp_path / "a.xyz", water(), water(info))
    with pytest.raises(DataError, match=DAMAGED[info]):
        read(file)
    structures, census, warnings = read(file, on_bad_frame="skip")
    assert (len(structures), census.frames_bad) == (1, 1)
    assert "1 bad frames left out: a.xyz frame 1" in warnings[0]


def test_damaged_forces(tmp_path):
    file = write(tmp_path / "a.xyz", water(), water().replace("0.200", "NaN"))
    with pytest.raises(DataError, match="a.xyz frame 1: forces of atom 1 is NaN"):
        read(file)
    two = water().replace("forces:R:3", "forces:R:2:other:R:1")
    with pytest.raises(DataError, match=r"a.xyz frame 1: forces has shape \[3, 2\], expected \[3, 3\]"):
        read(write(tmp_path / "a.xyz", water(), two))


def test_different_values_in_two_places(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0)
    file = tmp_path / "a.traj"
    atoms.info["energy"] = -2.0
    ase_write(file, atoms)
    with pytest.raises(
        DataError, match=r"'energy' is in info and in calculator with different values \(-2.0 and -1.0\)"
    ):
        read(file, targets={})
    atoms.info["energy"] = -1.0
    ase_write(file, atoms)
    assert read(file, targets={}).census["energy"].found == 1


def test_a_live_calculator_is_never_run(tmp_path):
    from macekit.data.values import find

    atoms = bulk("Cu")
    atoms.calc = EMT()
    assert find(atoms, "energy", "graph_scalar", "x") is None


@pytest.mark.parametrize(
    "text",
    [
        'REF_stress="1 2 3 4 5 6"',
        'REF_stress="1 6 5 6 2 4 5 4 3"',
        'REF_stress="_JSON [[1, 6, 5], [6, 2, 4], [5, 4, 3]]"',
        'stress="1 6 5 6 2 4 5 4 3"',
        'stress="1 2 3 4 5 6"',
    ],
)
def test_stress_in_all_its_forms(tmp_path, text):
    lattice = 'Lattice="9 0 0 0 9 0 0 0 9"'
    file = write(tmp_path / "a.xyz", water(f"energy=-1 {lattice} {text}").replace('"F F F"', '"T T T"'))
    (structure,) = read(file, targets={"stress": "stress"}).structures
    assert structure.targets["stress"].tolist() == [[1, 6, 5], [6, 2, 4], [5, 4, 3]]


@pytest.mark.parametrize("key", ["REF_stress", "stress"])
def test_asymmetric_stress_is_refused(tmp_path, key):
    lattice = 'Lattice="9 0 0 0 9 0 0 0 9"'
    text = f'energy=-1 {lattice} {key}="1 6 5 7 2 4 5 4 3"'
    file = write(tmp_path / "a.xyz", water(text).replace('"F F F"', '"T T T"'))
    with pytest.raises(DataError, match=f"frame 0: {key} is not symmetric"):
        read(file, targets={"stress": "stress"})
    assert len(read(file, targets={}).structures) == 1
    near = text.replace("7", "6.0001")
    file = write(tmp_path / "a.xyz", water(near).replace('"F F F"', '"T T T"'))
    stress = read(file, targets={"stress": "stress"}).structures[0].targets["stress"]
    np.testing.assert_array_equal(stress, stress.T)


@pytest.mark.parametrize("text", ['stress="1 2 3 4"', 'stress="a b"', 'REF_stress="1 2 3 4"'])
def test_malformed_stress(tmp_path, text):
    lattice = 'Lattice="9 0 0 0 9 0 0 0 9"'
    file = write(tmp_path / "a.xyz", water(f"energy=-1 {lattice} {text}").replace('"F F F"', '"T T T"'))
    with pytest.raises(DataError, match="a.xyz frame 0.*stress"):
        read(file, targets={"stress": "stress"})


@pytest.mark.parametrize("key", ["virial", "virials", "REF_virials"])
def test_virials_become_stress(tmp_path, key):
    virial = np.array([[1.0, 0.2, 0], [0.2, 2.0, 0], [0, 0, 3.0]])
    file = crystals(tmp_path / "a.xyz", energy=-1.0, **{key: virial})
    (structure, *_), census, _ = read(file, targets={"stress": "stress"})
    np.testing.assert_allclose(structure.targets["stress"], -virial / structure.volume)
    assert census["stress"].keys == {f"{key} (info)": 3}
    found = read(file, targets={"stress": "stress"}, units={"energy": "hartree"}).structures[0].targets["stress"]
    np.testing.assert_allclose(found, -virial * 27.211386245988 / structure.volume)


def test_stress_is_preferred_to_a_virial_and_compared_with_it(tmp_path):
    volume = bulk("Cu", cubic=True).get_volume()
    stress = np.diag([0.1, 0.2, 0.3])
    file = crystals(tmp_path / "a.xyz", energy=-1.0, REF_stress=stress, REF_virials=-stress * volume)
    structures, _, warnings = read(file, targets={"stress": "stress"})
    np.testing.assert_allclose(structures[0].targets["stress"], stress)
    assert not warnings
    crystals(file, energy=-1.0, REF_stress=stress, REF_virials=stress * volume)
    (warning,) = read(file, targets={"stress": "stress"}).warnings
    assert "'REF_stress' and the virial have opposite signs in 3 frames; expected stress = −virial/volume" in warning


def test_stress_of_a_molecule_is_no_label(tmp_path):
    file = write(tmp_path / "a.xyz", water('energy=-1 REF_stress="1 2 3 0 0 0"'))
    with pytest.raises(DataError, match="target 'stress' needs periodic structures; no frame is periodic"):
        read(file, targets={"stress": "stress"})
    periodic = water('energy=-1 Lattice="9 0 0 0 9 0 0 0 9" REF_stress="1 2 3 0 0 0"').replace('"F F F"', '"T T F"')
    structures, _, warnings = read(write(file, file.read_text(), periodic), targets={"stress": "stress"})
    assert [("stress" in s.targets) for s in structures] == [False, True]
    assert "1 structures are not periodic and have no stress: a.xyz frame 0" in warnings


def test_units_are_converted_on_reading(tmp_path):
    file = crystals(
        tmp_path / "a.xyz",
        REF_energy=-1.0,
        gap=1.0,
        REF_forces=FORCES,
        REF_stress=np.eye(3),
        REF_dipole=[1.0, 0, 0],
        REF_charges=[1.0, 0, 0, 0],
    )
    targets = {
        "y_graph_scalars": ["energy", "gap"],
        "y_graph_vector": "dipole",
        "y_node_scalars": ["charges"],
        "y_node_vector": "forces",
        "stress": "stress",
    }
    units = {"energy": "hartree", "length": "bohr", "stress": "GPa", "dipole": "debye"}
    structure = read(file, targets=targets, units=units).structures[0]
    census = read(file, targets=targets, units=units).census
    hartree, bohr = 27.211386245988, 0.529177210903
    assert float(structure.targets["energy"]) == pytest.approx(-hartree)
    assert float(structure.targets["gap"]) == 1.0
    assert structure.targets["forces"][0, 0] == pytest.approx(0.5 * hartree / bohr)
    assert structure.targets["stress"][0, 0] == pytest.approx(1 / 160.21766208)
    assert structure.targets["dipole"][0] == pytest.approx(0.20819433)
    assert structure.targets["charges"][0] == 1.0
    assert structure.cell[0, 0] == pytest.approx(3.61 * bohr)
    assert structure.positions[1, 1] == pytest.approx(3.61 / 2 * bohr)
    assert census["energy"].conversion == "hartree → eV (×27.2114)"
    assert census["gap"].conversion == ""
    with pytest.raises(ConfigError, match="unknown energy unit 'Hartrees'"):
        read(file, units={"energy": "Hartrees"})


def test_weights_and_config_types(tmp_path):
    file = write(
        tmp_path / "a.xyz",
        water("energy=-1 config_weight=2 config_energy_weight=3 config_type=bulk"),
        water("REF_x=1 energy=-1 forces_weight=0", shift=0.1),
    )
    found = read_structures([SourceConfig(file=str(file), weight=10.0)], config(file))
    one, two = found.structures
    assert (one.weight, one.property_weights, one.config_type) == (20.0, {"energy": 3.0}, "bulk")
    assert (two.weight, two.property_weights, two.config_type) == (10.0, {"forces": 0.0}, "Default")
    assert found.census.config_types == {"bulk": 1, "Default": 1}
    for value in ("-1", "much", "nan", "T"):
        with pytest.raises(DataError, match="frame 0: config_weight is .*, expected a number that is not negative"):
            read(write(tmp_path / "b.xyz", water(f"energy=-1 config_weight={value}")))


def test_census_prints_and_serialises(tmp_path):
    census = read(write(tmp_path / "a.xyz", water(), water(shift=0.1))).census
    values = json.loads(json.dumps(census.to_dict()))
    assert values["targets"]["energy"]["found"] == 2
    assert values["elements"] == {"1": 4, "8": 2}
    assert (census.num_structures, census.num_atoms) == (2, 6)
    console = Console(width=120)
    with console.capture() as capture:
        console.print(census.table("training data"))
    assert "training data: 2 structures, 6 atoms" in capture.get()
    assert "energy (calculator)" in capture.get()


def test_features_and_bonds_from_files(tmp_path):
    text = water('energy=-1 bonds="_JSON [[0, 1, 1.0], [0, 2, 2.0]]"').replace("forces:R:3", "forces:R:2:kind:I:1")
    text = text.replace("-0.3", "1")
    settings = {"targets": {}, "node_features": {"kind": [0.0, 1.0]}, "edge_features": "bonds"}
    structures = read(write(tmp_path / "a.xyz", text, text.replace("bonds", "other")), **settings).structures
    assert structures[0].node_features.tolist() == [[0, 1]] * 3
    assert structures[0].bond_features.tolist() == [[1.0], [2.0]]
    assert structures[1].bond_features.shape == (0, 1)
    with pytest.raises(DataError, match="bonds have 2 features, those of a.xyz frame 0 have 1"):
        read(
            write(
                tmp_path / "a.xyz",
                text,
                text.replace("1, 1.0]", "1, 1.0, 5.0]").replace("2, 2.0]", "2, 2.0, 1.0]"),
            ),
            **settings,
        )
    with pytest.raises(DataError, match="frame 0: no per-atom array 'kid'"):
        read(tmp_path / "a.xyz", targets={}, node_features={"kid": None})


def warnings_of(path, *texts, **fields):
    return read(write(path, *texts), **fields).warnings


def test_warning_of_outliers_names_the_worst_frames(tmp_path):
    frames = [water(f"energy={-14.2 + 0.001 * i}", shift=0.001 * i) for i in range(20)]
    frames[7] = water("energy=5000.0", shift=0.5)
    (first, second) = warnings_of(tmp_path / "a.xyz", *frames)
    assert "target 'energy': 1 frames lie more than 1000 median deviations" in first
    assert "a.xyz frame 7" in first
    assert "energies per atom of the same composition differ by 1671 eV" in second
    frames[7] = water("energy=-14.2").replace("-0.3", "-9000.0")
    (only,) = warnings_of(tmp_path / "a.xyz", *frames)
    assert "target 'forces': 1 frames" in only


def test_warning_of_close_atoms(tmp_path):
    frames = [water(shift=0.001 * i) for i in range(3)] + [water().replace("0.760000", "0.060000", 1)]
    warnings = warnings_of(tmp_path / "a.xyz", *frames, targets={})
    close = [w for w in warnings if "closer than 0.3 Å" in w]
    assert not close
    frames.append(water().replace("-0.760000", "0.600000"))
    (close,) = [w for w in warnings_of(tmp_path / "a.xyz", *frames, targets={}) if "closer than 0.3 Å" in w]
    assert "1 frames have atoms closer" in close
    assert "a.xyz frame 4 (atoms 1 and 2, 0.16 Å)" in close


@pytest.mark.parametrize(
    ("unit", "energy"), [("hartree", -76.4), ("kcal/mol", -47942.0), ("rydberg", -152.8), ("eV", -2079.0)]
)
def test_warning_of_energies_that_look_like_another_unit(tmp_path, unit, energy):
    frames = [water(f"energy={energy + 0.0001 * i}", shift=0.001 * i) for i in range(5)]
    warnings = warnings_of(tmp_path / "a.xyz", *frames)
    assert [w for w in warnings if "look like" in w] == (
        [] if unit == "eV" else [w for w in warnings if f"look like {unit}, data.units.energy is eV" in w]
    )
    assert bool(warnings) == (unit != "eV")
    assert not warnings_of(tmp_path / "a.xyz", *frames, units={"energy": unit})
    if unit != "eV":
        return
    (warning,) = warnings_of(tmp_path / "a.xyz", *frames, units={"energy": "hartree"})
    assert "look like eV, data.units.energy is hartree" in warning


def test_warning_of_lengths_in_bohr(tmp_path):
    atoms = [molecule("CH3CH2OH") for _ in range(4)]
    for index, frame in enumerate(atoms):
        frame.positions *= 1.8897 * (1 + 0.001 * index)
        frame.info["REF_energy"] = -10.0
    ase_write(tmp_path / "a.xyz", atoms)
    (warning,) = read(tmp_path / "a.xyz", targets={}).warnings
    assert "lengths look like bohr, data.units.length is angstrom" in warning
    assert not read(tmp_path / "a.xyz", targets={}, units={"length": "bohr"}).warnings
    for frame in atoms:
        frame.positions /= 1.8897
    ase_write(tmp_path / "a.xyz", atoms)
    assert not read(tmp_path / "a.xyz", targets={}).warnings
    (warning,) = read(tmp_path / "a.xyz", targets={}, units={"length": "bohr"}).warnings
    assert "not the declared unit, data.units.length is bohr" in warning


def test_warning_of_a_key_that_states_another_unit(tmp_path):
    (warning,) = warnings_of(tmp_path / "a.xyz", water("energy_kcal=-5"), keys={"energy": "energy_kcal"})
    assert "the key 'energy_kcal' says kcal/mol, data.units says otherwise for target 'energy'" in warning


def test_nothing_usable_is_an_error(tmp_path):
    file = write(tmp_path / "a.xyz", water("energy=nan"))
    with pytest.raises(DataError, match="no usable frames in a.xyz; the first: a.xyz: 1 bad frames left out"):
        read(file, on_bad_frame="skip")
    with pytest.raises(DataError, match="no files to read"):
        read_structures([], config(file))
