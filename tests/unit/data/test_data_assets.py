"""Real files are read whole and with the right labels."""

import numpy as np
import pytest

from macekit.config import DataConfig
from macekit.data import duplicates, elements_of, read_structures, resolve_reference_energies

pytestmark = pytest.mark.assets

FORCES = {"y_node_vector": "forces"}


def read(assets, *names, labels="all", **fields):
    files = [str(assets / "data" / name) for name in names]
    config = DataConfig(train=files, **fields)
    return read_structures(files, config, labels=labels)


def test_ethanol(assets):
    structures, census, warnings = read(assets, "ethanol/train.xyz", "ethanol/isolated_atoms.xyz", targets=FORCES)
    assert census.num_structures == 1004
    assert census["energy"].keys == {"energy (calculator)": 1004}
    assert (census["forces"].found, census["forces"].missing) == (1000, 4)
    assert float(structures[0].targets["energy"]) == -4209.4657843064815
    assert structures[0].targets["forces"][0].tolist() == [-4.15950961, 0.10729389, 3.61777644]
    assert census.config_types == {"Training_set": 1000, "isolated_atom": 4}
    assert not warnings
    assert not structures[0].is_periodic
    energies = resolve_reference_energies(
        "isolated_atoms", DataConfig(train=["a"]).targets, structures, elements_of(structures)
    )
    assert energies["energy"].by_symbol() == pytest.approx(
        {
            "H": -13.568422383046626,
            "C": -1025.2770951782686,
            "N": -1479.0665594928669,
            "O": -2035.5709809589698,
        }
    )


def test_dimers_without_forces(assets):
    found = read(assets, "ethanol/test_dimers.xyz", labels="any", targets=FORCES)
    assert found.census.num_structures == 429
    assert found.census["forces"].found == 0


def test_3bpa(assets):
    cold, census, warnings = read(assets, "3bpa/train_300K.xyz", "3bpa/iso_atoms.xyz", targets=FORCES)
    assert census.num_structures == 504
    assert float(cold[0].targets["energy"]) == -17660.461737861464
    assert not warnings
    mixed = read(assets, "3bpa/train_mixedT.xyz", targets=FORCES).structures
    (sentence,) = duplicates({"train": cold, "test": mixed})
    assert sentence.startswith("31 structures of test are also in train")


def test_silicon(assets):
    targets = FORCES | {"stress": "stress"}
    structures, census, warnings = read(assets, "silicon/Si.training.extxyz", targets=targets)
    assert census.num_structures == 214
    assert census["stress"].keys == {"REF_stress (info)": 214}
    assert census["forces"].keys == {"REF_forces (arrays)": 214}
    assert not warnings
    np.testing.assert_allclose(
        structures[0].targets["stress"][0],
        [0.004107503988364278, -0.005671550665533216, 0.003382576471059688],
    )
    assert all(s.pbc.all() for s in structures)
    assert read(assets, "silicon/Si.test.extxyz", targets=targets).census.num_structures == 25


def test_silicon_stress_sign_and_unit(assets):
    """The VASP numbers beside it are kbar, compression positive, xx yy zz xy yz xz."""
    targets = FORCES | {"stress": "stress"}
    structures = read(assets, "silicon/Si.training.extxyz", targets=targets).structures
    from macekit.data import read_atoms

    for atoms, structure in zip(read_atoms(assets / "data/silicon/Si.training.extxyz"), structures, strict=True):
        xx, yy, zz, xy, yz, xz = -atoms.info["vasp_kbar_xx_yy_zz_xy_yz_xz"] / 1602.1766208
        np.testing.assert_allclose(structure.targets["stress"], [[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]], atol=2e-5)


def test_ani1x(assets):
    targets = FORCES | {"y_graph_vector": "dipole"}
    structures, census, warnings = read(assets, "ani1x/ani1x_1000_wb97x_dz.extxyz", targets=targets)
    assert census.num_structures == 1000
    assert census["dipole"].keys == {"REF_dipole_eA (info)": 586}
    assert (census["dipole"].found, census["dipole"].missing) == (586, 414)
    assert census["energy"].found == census["forces"].found == 1000
    assert not warnings
    assert structures[0].targets["dipole"].tolist() == pytest.approx([0.174642235, -0.887772619, -0.213298618])


def test_qm9(assets):
    structures, census, warnings = read(
        assets, "qm9/qm9_1000_u0.extxyz", targets={"y_graph_scalars": ["energy", "alpha_bohr3"]}
    )
    assert census.num_structures == 1000
    assert census["energy"].keys == {"REF_energy (info)": 1000}
    assert elements_of(structures) == [1, 6, 7, 8, 9]
    assert not warnings
    kcal = read(
        assets,
        "qm9/qm9_1000_u0.extxyz",
        targets={"y_graph_scalars": ["u0"]},
        keys={"u0": "u0_atom_kcal"},
        units={"energy": "kcal/mol"},
    )
    assert float(kcal.structures[0].targets["u0"]) == pytest.approx(-1734.3414306640625 * 0.0433641153087705)
