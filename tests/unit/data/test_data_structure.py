# ruff: noqa: RUF043
import copy

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from macekit.data import Structure, as_structures, validate_structure
from macekit.data.validation import close_pairs
from macekit.errors import DataError, UsageError


def test_from_ase_copies_and_freezes():
    atoms = bulk("Cu", cubic=True)
    structure = Structure.from_ase(atoms, source="cu")
    for name in ("atomic_numbers", "positions", "cell", "pbc", "node_features", "bonds", "bond_features"):
        array = getattr(structure, name)
        assert not array.flags.writeable, name
    atoms.positions += 1.0
    atoms.cell *= 2.0
    atoms.pbc = False
    assert structure.positions[0].tolist() == [0.0, 0.0, 0.0]
    assert structure.cell[0, 0] == pytest.approx(3.61)
    assert structure.pbc.all()
    with pytest.raises(ValueError, match="read-only"):
        structure.positions[0] = 1.0
    with pytest.raises(AttributeError):
        structure.weight = 2.0
    with pytest.raises(TypeError):
        structure.targets["energy"] = np.zeros(())


def test_arrays_given_are_never_frozen_or_aliased():
    positions = np.zeros((1, 3))
    energy = np.array(1.0)
    structure = Structure(np.array([1]), positions, targets={"energy": energy})
    assert positions.flags.writeable
    assert energy.flags.writeable
    positions[0] = 5.0
    assert structure.positions[0, 0] == 0.0


def test_defaults_shapes_and_types():
    structure = Structure([1, 8], [[0, 0, 0], [0, 0, 1]])
    assert structure.atomic_numbers.dtype == np.int64
    assert structure.positions.dtype == np.float64
    assert structure.node_features.shape == (2, 0)
    assert structure.bonds.shape == (0, 2)
    assert len(structure) == structure.num_atoms == 2
    assert not structure.is_periodic
    assert structure.formula == "HO"
    assert "HO" in repr(structure)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positions": np.zeros((2, 2))}, r"x frame 3: positions has shape \[2, 2\], expected \[2, 3\]"),
        ({"cell": np.zeros(3)}, r"cell has shape \[3\], expected \[3, 3\]"),
        ({"pbc": [True, False]}, r"pbc has shape \[2\], expected \[3\]"),
        ({"atomic_numbers": [1.5, 2.0]}, "atomic_numbers must be whole numbers"),
        ({"positions": [["a", "b", "c"]] * 2}, "positions is not numeric"),
        ({"node_features": np.zeros((3, 1))}, r"node_features has shape \[3, 1\], expected \[2, any\]"),
        ({"bonds": [[0, 1]], "bond_features": np.zeros((2, 1))}, "1 bonds but 2 rows of bond_features"),
    ],
)
def test_wrong_shapes_are_named(fields, message):
    values = {"atomic_numbers": [1, 1], "positions": np.zeros((2, 3)), "source": "x frame 3"} | fields
    with pytest.raises(DataError, match=message):
        Structure(**values)


def test_copies_keep_everything():
    structure = Structure([1], [[0, 0, 0]], targets={"energy": 1.0}, property_weights={"energy": 2.0}, source="a")
    twin = copy.deepcopy(structure)
    assert twin.targets["energy"] == 1.0
    assert twin.property_weights == {"energy": 2.0}
    changed = structure.with_targets({"energy": 3.0})
    assert changed.targets["energy"] == 3.0
    assert changed.source == "a"


def test_to_ase_round_trip():
    kinds = {"energy": "graph_scalar", "forces": "node_vector", "stress": "stress", "charges": "node_scalar"}
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    targets = {"energy": -1.0, "forces": np.ones((2, 3)), "stress": np.eye(3), "charges": [1.0, -1.0]}
    structure = Structure.from_ase(atoms).with_targets(targets)
    back = structure.to_ase(kinds)
    assert back.info["REF_energy"] == -1.0
    assert back.arrays["REF_forces"].shape == (2, 3)
    assert back.arrays["REF_charges"].tolist() == [1.0, -1.0]
    assert back.info["REF_stress"].shape == (3, 3)
    np.testing.assert_array_equal(back.positions, atoms.positions)
    assert not structure.to_ase().info


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": [[0, 0, 0], [np.nan, 0, 0]]}, r"f 1: position of atom 1 is \(nan, 0, 0\)"),
        ({"positions": [[np.inf, 0, 0], [1, 0, 0]]}, "position of atom 0 is"),
        ({"positions": [[0, 0, 0], [1e9, 0, 0]]}, "beyond 1e8"),
        ({"atomic_numbers": [0, 1]}, "atom 0 has atomic number 0"),
        ({"atomic_numbers": [1, 119]}, "atom 1 has atomic number 119"),
        (
            {"pbc": [True] * 3},
            "periodic along a, b, c but the lattice vectors .* are zero or not independent",
        ),
        ({"pbc": [True] * 3, "cell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]]}, "not independent"),
        ({"pbc": [True] * 3, "cell": np.eye(3) * 0.05}, "the volume of the cell is"),
        ({"pbc": [True] * 3, "cell": np.eye(3) * np.nan}, "expected finite lattice vectors"),
        ({"positions": [[1, 1, 1], [1, 1, 1 + 1e-8]]}, "atoms 0 and 1 are at the same point"),
        (
            {"positions": [[0, 0, 0], [5, 5, 5]], "pbc": [True] * 3, "cell": np.eye(3) * 5},
            "atoms 0 and 1 are at the same point",
        ),
    ],
)
def test_impossible_structures_are_refused(change, message):
    values = {"atomic_numbers": [1, 1], "positions": [[0, 0, 0], [0, 0, 1]], "source": "f 1"} | change
    with pytest.raises(DataError, match=message):
        validate_structure(Structure(**values))


@pytest.mark.parametrize(
    "values",
    [
        {"atomic_numbers": [], "positions": np.zeros((0, 3))},
        {"atomic_numbers": [1], "positions": np.zeros((1, 3))},
        {"atomic_numbers": [1], "positions": np.zeros((1, 3)), "pbc": [True] * 3, "cell": np.eye(3)},
        {
            "atomic_numbers": [1],
            "positions": np.zeros((1, 3)),
            "pbc": [1, 1, 0],
            "cell": np.diag([3.0, 3, 0]),
        },
        {"atomic_numbers": [1], "positions": np.zeros((1, 3)), "cell": np.full((3, 3), np.nan)},
        {"atomic_numbers": [1, 1], "positions": [[0, 0, 0], [5, 5, 5]], "cell": np.eye(3) * 5},
        {"atomic_numbers": [1], "positions": np.zeros((1, 3)), "pbc": [True] * 3, "cell": -np.eye(3) * 4},
    ],
)
def test_unusual_structures_are_accepted(values):
    validate_structure(Structure(**values))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    pbc=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    size=st.integers(1, 70),
)
def test_close_pairs_agree_with_all_images(seed, pbc, size):
    generator = np.random.default_rng(seed)
    cell = np.eye(3) * 4.0 + generator.uniform(-1.5, 1.5, (3, 3))
    positions = generator.uniform(-9.0, 9.0, (size, 3))
    radius = 0.9
    structure = Structure(np.ones(size, int), positions, cell, pbc)
    first, second, distances = close_pairs(structure, radius)
    best: dict[tuple[int, int], float] = {}
    inverse = np.linalg.inv(cell)  # every image within the radius, however oblique the cell
    furthest = np.ceil(np.ptp(positions @ inverse, axis=0) + radius * np.linalg.norm(inverse, axis=0)).astype(int)
    reach = [range(-n, n + 1) if periodic else range(1) for n, periodic in zip(furthest, pbc, strict=True)]
    shifts = np.array(np.meshgrid(*reach, indexing="ij")).reshape(3, -1).T @ cell
    for i in range(size):
        for j in range(i + 1, size):
            distance = np.linalg.norm(positions[j] - positions[i] + shifts, axis=1).min()
            if distance < radius:
                best[i, j] = distance
    assert {(i, j) for i, j in zip(first, second, strict=True) if i != j} == set(best)
    for i, j, distance in zip(first, second, distances, strict=True):
        if i != j:
            assert distance == pytest.approx(best[i, j], abs=1e-9)
    assert np.all(np.diff(distances) >= 0)


def test_as_structures_takes_both_kinds():
    atoms = molecule("H2O")
    structure = Structure.from_ase(atoms)
    both = as_structures([atoms, structure])
    assert both[1] is structure
    assert both[0].source == "structure 0"
    assert len(as_structures(atoms)) == len(as_structures(structure)) == 1
    with pytest.raises(UsageError, match=r"structure 0: expected ase.Atoms or macekit.Structure, got str"):
        as_structures(["water.xyz"])
    with pytest.raises(DataError, match="structure 1: position of atom 0"):
        as_structures([atoms, Atoms("H", positions=[[np.nan, 0, 0]])])
    assert as_structures([Atoms()])[0].num_atoms == 0


def test_node_features_are_encoded():
    atoms = molecule("H2O")
    atoms.arrays["charge_state"] = np.array([0, 1, -1])
    atoms.arrays["kind"] = np.array(["w", "w", "x"])
    atoms.arrays["number"] = np.array([0.5, 1.5, 2.5])
    features = {"charge_state": [-1.0, 0.0, 1.0], "kind": ["w", "x"], "number": None}
    structure = Structure.from_ase(atoms, node_features=features)
    assert structure.node_features.tolist() == [
        [0, 1, 0, 1, 0, 0.5],
        [0, 0, 1, 1, 0, 1.5],
        [1, 0, 0, 0, 1, 2.5],
    ]
    with pytest.raises(DataError, match=r"node feature 'charge_state' of atom 2 is -1, expected one of 0\.0, 1\.0"):
        Structure.from_ase(atoms, node_features={"charge_state": [0.0, 1.0]})
    with pytest.raises(DataError, match="no per-atom array 'kinds'(.|\n)*did you mean 'kind'"):
        Structure.from_ase(atoms, node_features={"kinds": None})
    with pytest.raises(DataError, match="holds text such as 'w'"):
        Structure.from_ase(atoms, node_features={"kind": None})
    atoms.arrays["vector"] = np.zeros((3, 3))
    with pytest.raises(DataError, match=r"has shape \[3, 3\], expected \[3\]"):
        Structure.from_ase(atoms, node_features={"vector": None})
    atoms.arrays["number"][1] = np.nan
    with pytest.raises(DataError, match="'number' of atom 1 is nan"):
        Structure.from_ase(atoms, node_features={"number": None})


def test_bonds_are_read_from_info():
    atoms = molecule("H2O")
    atoms.info["bonds"] = [[0, 1, 1.0, 0.0], [0, 2, 1.0, 0.5]]
    structure = Structure.from_ase(atoms, edge_features="bonds")
    assert structure.bonds.tolist() == [[0, 1], [0, 2]]
    assert structure.bond_features.tolist() == [[1.0, 0.0], [1.0, 0.5]]
    for rows, message in [
        ([[0, 1]], "expected rows"),
        ([[0, 3, 1.0]], "bond 0 of 'bonds' joins atoms 0 and 3"),
        ([[0, 1, 1.0], [1, 1, 1.0]], "bond 1 of 'bonds' joins atoms 1 and 1"),
        ([[0, 0.5, 1.0]], "joins atoms 0 and 0.5"),
        ([[0, 1, 1.0], [0, 2]], "not rows of numbers of one length"),
        ([[0, 1, np.nan]], "NaN"),
    ]:
        atoms.info["bonds"] = rows
        with pytest.raises(DataError, match=message):
            Structure.from_ase(atoms, edge_features="bonds")
    atoms.info["bonds"] = []
    assert Structure.from_ase(atoms, edge_features="bonds").bonds.shape == (0, 2)
