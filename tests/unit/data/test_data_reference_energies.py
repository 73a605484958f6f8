import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from macekit.config import TargetsConfig
from macekit.data import (
    Structure,
    fit_reference_energies,
    inconsistent_totals,
    resolve_reference_energies,
    separate_isolated_atoms,
)
from macekit.errors import ConfigError, DataError

H, C, O = 1, 6, 8
E0 = {H: -13.6, C: -1028.0, O: -2040.0}


def frame(numbers, extra=0.0, index=0, config_type="Default", pbc=(False,) * 3, **targets):
    energy = sum(E0[z] for z in numbers) + extra
    positions = [[0, 0, 1.1 * i] for i in range(len(numbers))]
    return Structure(
        numbers,
        positions,
        np.eye(3) * 20,
        pbc,
        targets=targets or {"energy": energy},
        source=f"a frame {index}",
        config_type=config_type,
    )


WATER, METHANE, CO2 = [O, H, H], [C, H, H, H, H], [C, O, O]
SCALARS = TargetsConfig(y_graph_scalars=["energy", "gap"])


def test_fit_is_exact_where_the_data_decide():
    found = fit_reference_energies([frame(WATER), frame(METHANE), frame(CO2)], "energy", [H, C, O])
    np.testing.assert_allclose(found.values, [E0[H], E0[C], E0[O]], rtol=1e-10)
    assert found.values.dtype == np.float64
    assert (found.rank, found.undetermined, found.warnings()) == (3, (), [])
    assert max(row.rmse for row in found.residuals) < 1e-6


def test_fit_says_what_is_undetermined():
    found = fit_reference_energies([frame([C, C, O, H, H, H, H, H, H])] * 3, "energy", [H, C, O])
    assert found.rank == 1
    assert found.undetermined == ("E0(H) − 1 with E0(C) + 3", "E0(H) − 1 with E0(O) + 6")
    (warning,) = found.warnings()
    assert "rank 1 for 3 elements" in warning
    assert "isolated atoms or given values" in warning
    np.testing.assert_allclose(found.values @ [6, 2, 1], 6 * E0[H] + 2 * E0[C] + E0[O], rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(counts=st.lists(st.tuples(*[st.integers(0, 6)] * 4), min_size=1, max_size=6))
def test_undetermined_combinations_really_change_nothing(counts):
    from macekit.data.composition import undetermined_combinations

    symbols = {"H": 0, "C": 1, "N": 2, "O": 3}
    matrix = np.array([row for row in counts if sum(row)] or [(1, 0, 0, 0)], dtype=float)
    sentences = undetermined_combinations(matrix, [1, 6, 7, 8])
    assert len(sentences) == 4 - np.linalg.matrix_rank(matrix)
    for sentence in sentences:
        change = np.zeros(4)
        for term in sentence.split(" with "):
            name, sign, amount = term.split(" ")
            change[symbols[name[3:-1]]] = float(amount) * (1 if sign == "+" else -1)
        np.testing.assert_allclose(matrix @ change, 0.0, atol=1e-9)


def test_fit_passes_over_structures_without_label():
    empty = frame(METHANE, energy=np.nan)
    found = fit_reference_energies([frame(WATER), frame(METHANE), frame(CO2), empty], "energy", [H, C, O])
    np.testing.assert_allclose(found.values, [E0[H], E0[C], E0[O]], rtol=1e-10)
    with pytest.raises(DataError, match="no structure has a label for 'energy' to fit"):
        fit_reference_energies([empty], "energy", [H, C])


def test_residuals_by_config_type_or_composition():
    frames = [
        frame(WATER, 0.3, config_type="a"),
        frame(WATER, -0.3, config_type="b"),
        frame(METHANE, config_type="b"),
    ]
    rows = {row.group: row for row in resolve(frames, {"H": -13.6, "C": -1028.0, "O": -2040.0})["energy"].residuals}
    assert set(rows) == {"a", "b", "all"}
    assert rows["a"].rmse == pytest.approx(100.0)
    assert rows["a"].mean == pytest.approx(100.0)
    assert rows["all"].count == 3
    by_formula = {
        row.group for row in fit_reference_energies([frame(WATER), frame(METHANE)], "energy", [H, C, O]).residuals
    }
    assert by_formula == {"H2O", "H4C", "all"}


def test_table_and_dictionary():
    found = fit_reference_energies([frame(WATER), frame(METHANE), frame(CO2)], "energy", [H, C, O])
    console = Console(width=100)
    with console.capture() as capture:
        console.print(found.table())
    assert "E0(C) = -1028.000000 eV" in capture.get()
    assert found.to_dict()["values"]["O"] == pytest.approx(-2040.0)


def resolve(structures, choice, targets=None, elements=(H, C, O)):
    return resolve_reference_energies(choice, targets or TargetsConfig(), structures, list(elements))


def test_given_values_must_cover_all_elements():
    assert resolve([frame(WATER)], {"H": -1.0, "C": -2.0, "O": -3.0, "N": 9.0})["energy"].values.tolist() == [
        -1,
        -2,
        -3,
    ]
    assert resolve([frame(WATER)], {"1": -1.0, "6": -2.0, "8": -3.0})["energy"].values.tolist() == [
        -1,
        -2,
        -3,
    ]
    with pytest.raises(DataError, match="no value for C, O; given: H"):
        resolve([frame(WATER)], {"H": -13.6})
    with pytest.raises(DataError, match="must be finite"):
        resolve([frame(WATER)], {"H": np.nan, "C": -1.0, "O": -1.0})


ATOMS = [frame([z], index=10 + z) for z in (H, C, O)]


def test_isolated_atoms():
    found = resolve([frame(WATER, -10.0), *ATOMS], "isolated_atoms")["energy"]
    assert found.values.tolist() == [E0[H], E0[C], E0[O]]
    assert found.method == "isolated_atoms"
    with pytest.raises(DataError, match=r"no isolated atom with a label for 'energy' for C \(found: H, O\)"):
        resolve([frame(WATER), ATOMS[0], ATOMS[2]], "isolated_atoms")
    with pytest.raises(DataError, match=r"two isolated H atoms with different energy: a frame 11 .* and a frame 7"):
        resolve([*ATOMS, frame([H], 0.5, index=7)], "isolated_atoms")


def test_fit_points_out_unused_isolated_atoms():
    (warning,) = resolve([frame(WATER), *ATOMS], "fit")["energy"].warnings()
    assert "there is an isolated atom of every element" in warning
    assert not resolve([frame(WATER), frame(METHANE), *ATOMS[1:]], "fit")["energy"].warnings()


def test_what_counts_as_an_isolated_atom():
    tagged = frame([H], config_type="IsolatedAtom", pbc=(True,) * 3)
    spelt = frame([H], config_type="isolated_atom", pbc=(True,) * 3)
    crystal = frame([C], pbc=(True,) * 3)
    isolated, others = separate_isolated_atoms([tagged, spelt, crystal, frame([O]), frame(WATER)])
    assert [s.formula for s in isolated] == ["H", "H", "O"]
    assert [s.formula for s in others] == ["C", "H2O"]


def test_several_targets_do_not_share_energies():
    frames = [frame(m, energy=sum(E0[z] for z in m), gap=1.0 * len(m)) for m in (WATER, METHANE, CO2)]
    found = resolve(frames, "fit", SCALARS)
    np.testing.assert_allclose(found["gap"].values, 1.0)
    assert found["gap"].unit == ""
    assert found["energy"].values[1] == pytest.approx(E0[C])
    given = resolve(frames, {"H": -13.6, "C": -1028.0, "O": -2040.0}, SCALARS)
    assert given["gap"].method == "none"
    assert given["gap"].values.tolist() == [0, 0, 0]
    chosen = resolve(frames, {"gap": "fit", "energy": {"H": -1.0, "C": -2.0, "O": -3.0}}, SCALARS)
    assert chosen["energy"].values.tolist() == [-1, -2, -3]
    assert chosen["gap"].method == "fit"
    assert resolve(frames, "none", SCALARS)["energy"].values.tolist() == [0, 0, 0]


def test_wrong_choices_are_named():
    with pytest.raises(
        ConfigError, match=r"'gapp' is neither a chemical symbol nor a graph scalar(.|\n)*did you mean 'gap'"
    ):
        resolve([frame(WATER)], {"gapp": "fit"}, SCALARS)
    with pytest.raises(
        ConfigError, match="expected fit, isolated_atoms, none or values by symbol for 'energy', got 'fitt'"
    ):
        resolve([frame(WATER)], "fitt")


def test_totals_that_do_not_belong_to_the_reference_energies_are_reported():
    binding = [frame(WATER, energy=-10.0, index=i) for i in range(3)]
    energies = resolve([*binding], {"H": -13.6, "C": -1028.0, "O": -2040.0})["energy"]
    (warning,) = inconsistent_totals(binding, energies)
    assert "3 labels are more than 50 eV/atom away" in warning
    assert "a frame 0" in warning
    assert inconsistent_totals([frame(WATER, -10.0)], energies) == []
