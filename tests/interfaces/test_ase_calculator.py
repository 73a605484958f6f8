"""The ASE calculator against ASE's own checks, and on inputs that calculators stumble over."""

from __future__ import annotations

import copy
import resource
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.filters import FrechetCellFilter
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from macekit.cli.demo_dynamics import start_momenta
from macekit.errors import DataError, UsageError
from macekit.interfaces.trained import TrainedModel
from macekit.outputs.successive import Successive


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """One entry per evaluation of the model: whether the stress was part of it."""
    calls: list[bool] = []
    for name in ("_placed", "_by_operators"):
        original = getattr(Successive, name)

        def counting(*arguments: Any, original: Any = original, **options: Any) -> Any:
            calls.append(bool(options["stress"]))
            return original(*arguments, **options)

        monkeypatch.setattr(Successive, name, counting)
    return calls


def test_forces_are_the_derivative(trained: TrainedModel, atoms: Atoms) -> None:
    atoms.calc = trained.ase_calculator("cpu")
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 1e-2  # so that the test can fail
    np.testing.assert_allclose(forces, calculate_numerical_forces(atoms, eps=1e-4), atol=1e-6)


def test_stress_is_the_derivative(trained: TrainedModel, atoms: Atoms) -> None:
    atoms.calc = trained.ase_calculator("cpu")
    if not atoms.pbc.any():
        with pytest.raises(PropertyNotImplementedError, match="not periodic in any direction"):
            atoms.get_stress()
        return
    stress = atoms.get_stress()
    assert stress.shape == (6,)
    assert np.abs(stress).max() > 1e-5
    np.testing.assert_allclose(stress, calculate_numerical_stress(atoms, eps=1e-5), atol=1e-7)


def test_results(trained: TrainedModel, atoms: Atoms) -> None:
    atoms.calc = trained.ase_calculator("cpu")
    energy = atoms.get_potential_energy()
    results = atoms.calc.results
    assert isinstance(energy, float)
    assert energy == results["free_energy"] == atoms.get_potential_energy(force_consistent=True)
    assert results["energies"].sum() == pytest.approx(energy, abs=1e-9)
    assert atoms.get_potential_energies().shape == (len(atoms),)
    assert atoms.get_charges().shape == (len(atoms),)
    assert atoms.get_dipole_moment().shape == (3,)
    assert all(value.dtype == np.float64 for value in results.values() if isinstance(value, np.ndarray))
    assert set(results) == {"energy", "free_energy", "energies", "forces", "dipole", "charges"}
    assert set(atoms.calc.implemented_properties) == {*results, "stress"}


def test_agrees_with_predict(trained: TrainedModel, atoms: Atoms) -> None:
    predicted = trained.predict([atoms])
    atoms.calc = trained.ase_calculator("cpu")
    assert atoms.get_potential_energy() == pytest.approx(predicted["energy"][0], abs=1e-9)
    np.testing.assert_allclose(atoms.get_forces(), predicted["forces"][0], atol=1e-9)
    np.testing.assert_allclose(atoms.get_dipole_moment(), predicted["dipole"][0], atol=1e-9)
    np.testing.assert_allclose(atoms.get_charges(), predicted["charges"][0], atol=1e-9)


def test_one_evaluation_serves_all(trained: TrainedModel, metal: Atoms, counted: list[bool]) -> None:
    metal.calc = trained.ase_calculator("cpu")
    metal.get_potential_energy()
    metal.get_forces()
    metal.get_charges()
    assert counted == [False]
    metal.get_stress()
    assert counted == [False, True]
    metal.positions[0, 0] += 0.01
    metal.get_forces()
    metal.get_stress()
    assert counted == [False, True, True]


def test_what_invalidates(trained: TrainedModel, metal: Atoms, counted: list[bool]) -> None:
    calculator = trained.ase_calculator("cpu")
    metal.calc = calculator
    changes: list[Callable[[], Any]] = [
        lambda: metal.positions.__setitem__((0, 0), metal.positions[0, 0] + 1e-9),
        lambda: metal.set_cell(metal.cell * 1.001),
        lambda: metal.set_pbc((True, True, False)),
        lambda: metal.symbols.__setitem__(1, "O"),
        lambda: metal.append("H"),
    ]
    metal.get_potential_energy()
    for number, change in enumerate(changes, start=2):
        change()
        assert calculator.calculation_required(metal, ["energy"])
        metal.get_potential_energy()
        assert not calculator.calculation_required(metal, ["energy", "forces", "energies"])
        assert len(counted) == number


def test_what_does_not_matter(trained: TrainedModel, metal: Atoms, counted: list[bool]) -> None:
    metal.calc = trained.ase_calculator("cpu")
    metal.get_potential_energy()
    metal.info["note"] = "x"
    metal.set_initial_charges([1.0] * len(metal))
    metal.set_initial_magnetic_moments([1.0] * len(metal))
    metal.set_momenta(np.ones((len(metal), 3)))
    metal.get_forces()
    assert len(counted) == 1


def test_get_property_without_calculation(trained: TrainedModel, ethanol: Atoms) -> None:
    calculator = trained.ase_calculator("cpu")
    assert calculator.get_property("energy", ethanol, allow_calculation=False) is None
    assert calculator.get_property("energy", ethanol) == calculator.results["energy"]
    with pytest.raises(PropertyNotImplementedError):
        calculator.get_property("magmom", ethanol)
    with pytest.raises(UsageError, match="no atoms"):
        trained.ase_calculator("cpu").calculate()


def test_results_are_copies(trained: TrainedModel, ethanol: Atoms) -> None:
    ethanol.calc = trained.ase_calculator("cpu")
    ethanol.get_forces()[:] = 0.0
    assert np.abs(ethanol.get_forces()).max() > 0


def test_atoms_are_never_changed(trained: TrainedModel, atoms: Atoms) -> None:
    atoms.info["note"] = {"a": 1}
    atoms.positions += 50.0  # far outside the cell: not wrapped back
    before = copy.deepcopy(atoms)
    atoms.calc = trained.ase_calculator("cpu")
    atoms.get_forces()
    assert atoms == before
    assert str(atoms.info) == str(before.info)
    assert set(atoms.arrays) == set(before.arrays)
    np.testing.assert_array_equal(atoms.positions, before.positions)


def test_the_model_of_the_user_is_never_changed(trained: TrainedModel, ethanol: Atoms) -> None:
    before = {name: value.clone() for name, value in trained.module.state_dict().items()}
    calculator = trained.ase_calculator("cpu", dtype="float32")
    calculator.get_property("forces", ethanol)
    assert trained.module.dtype.is_floating_point
    assert all(parameter.requires_grad for parameter in trained.module.parameters())
    for name, value in trained.module.state_dict().items():
        assert value.dtype == before[name].dtype
        assert value.equal(before[name])


def test_precisions(make: Callable[..., TrainedModel], ethanol: Atoms) -> None:
    import torch

    single = make(dtype=torch.float32)
    energies = {dtype: single.ase_calculator("cpu", dtype=dtype) for dtype in ("float32", "float64", None)}
    values = {dtype: calculator.get_property("energy", ethanol) for dtype, calculator in energies.items()}
    assert values[None] == values["float32"] != values["float64"]
    assert values["float32"] == pytest.approx(values["float64"], abs=1e-4)
    double = make(dtype=torch.float64)
    narrowed = double.ase_calculator("cpu", dtype="float32").get_property("energy", Atoms("H"))
    assert narrowed == pytest.approx(double.ase_calculator("cpu").get_property("energy", Atoms("H")), abs=1e-6)
    with pytest.raises(UsageError, match=r"dtype: expected 'float32' or 'float64', got 'float16'"):
        single.ase_calculator("cpu", dtype="float16")  # type: ignore[arg-type]


def test_devices(trained: TrainedModel, ethanol: Atoms) -> None:
    import torch

    assert trained.ase_calculator(device=None).model.device == trained.module.device
    with pytest.raises(UsageError, match=r"device: expected auto, cpu, cuda or cuda:N, got 'gpu'"):
        trained.ase_calculator("gpu")
    if not torch.cuda.is_available():
        assert trained.ase_calculator().model.device.type == "cpu"
        with pytest.raises(UsageError, match="'cuda' asks for GPU 0"):
            trained.ase_calculator("cuda")


@pytest.mark.parametrize(
    ("structure", "match"),
    [
        (
            Atoms("HHe", [[0, 0, 0], [0, 0, 1]]),
            r"model knows H, C, O, Al, Cu; structure has He \(first at atom 1\)",
        ),
        (Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), "position of atom 1"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 1e30]]), "beyond 1e8"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0]]), "atoms 0 and 1 are at the same point"),
        (Atoms("H", pbc=True), "zero or not independent"),
        (Atoms("H", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), "zero or not independent"),
        (Atoms("H", cell=[1e-2, 1e-2, 1e-2], pbc=True), "volume of the cell"),
        (Atoms("X"), "atomic number 0"),
    ],
)
def test_structures_that_cannot_be_used(trained: TrainedModel, structure: Atoms, match: str) -> None:
    structure.calc = trained.ase_calculator("cpu")
    with pytest.raises(DataError, match=match) as caught:
        structure.get_potential_energy()
    assert isinstance(caught.value, ValueError)
    with pytest.raises(DataError, match=match):  # and a failed attempt leaves no result behind
        structure.get_potential_energy()


def test_no_atoms(trained: TrainedModel) -> None:
    nothing = Atoms()
    nothing.calc = trained.ase_calculator("cpu")
    assert nothing.get_potential_energy() == 0.0
    assert nothing.get_forces().shape == (0, 3)
    assert nothing.calc.results["energies"].shape == (0,)
    assert nothing.get_charges().shape == (0,)
    np.testing.assert_array_equal(nothing.get_dipole_moment(), np.zeros(3))


def test_single_and_distant_atoms(trained: TrainedModel) -> None:
    calculator = trained.ase_calculator("cpu")
    one = calculator.get_property("energy", Atoms("H"))
    np.testing.assert_array_equal(calculator.get_property("forces", Atoms("H")), np.zeros((1, 3)))
    assert one == pytest.approx(-13.6 - 0.2, abs=1e-9)  # reference energy + shift
    pair = Atoms("H2", [[0, 0, 0], [0, 0, 40.0]])
    assert calculator.get_property("energy", pair) == pytest.approx(2 * one, abs=1e-9)


def test_a_cell_without_periodicity_is_ignored(trained: TrainedModel, ethanol: Atoms) -> None:
    calculator = trained.ase_calculator("cpu")
    energy = calculator.get_property("energy", ethanol)
    ethanol.cell = [3.0, 3.0, 3.0]
    assert calculator.get_property("energy", ethanol) == energy


def test_a_slab_may_lack_the_vector_along_its_normal(trained: TrainedModel) -> None:
    slab = Atoms("Al", cell=[2.8, 2.8, 0.0], pbc=(True, True, False))
    calculator = trained.ase_calculator("cpu")
    with_vacuum = slab.copy()
    with_vacuum.cell[2, 2] = 20.0
    assert calculator.get_property("energy", slab) == pytest.approx(
        calculator.get_property("energy", with_vacuum), abs=1e-10
    )


def test_a_cell_smaller_than_the_cutoff(trained: TrainedModel) -> None:
    calculator = trained.ase_calculator("cpu")
    small = bulk("Cu")
    energy = calculator.get_property("energy", small)
    assert calculator.get_property("energy", small * (2, 2, 2)) == pytest.approx(8 * energy, rel=1e-10)


def test_relaxation_with_the_cell(trained: TrainedModel, metal: Atoms) -> None:
    metal.calc = trained.ase_calculator("cpu")
    before = metal.get_potential_energy()
    volume = metal.get_volume()
    BFGS(FrechetCellFilter(metal), logfile=None, maxstep=0.05).run(fmax=1e-3, steps=10)
    assert metal.get_potential_energy() < before
    assert metal.get_volume() != volume


def test_dynamics_conserve_energy(trained: TrainedModel) -> None:
    def deviation(timestep: float) -> float:
        atoms = molecule("CH3OH")
        atoms.calc = trained.ase_calculator("cpu")
        atoms.set_momenta(start_momenta(atoms, np.random.default_rng(0)))
        dynamics = VelocityVerlet(atoms, timestep * units.fs)
        energies = []
        for _ in range(int(20 / timestep)):
            dynamics.run(1)
            energies.append(atoms.get_total_energy())
        return float(np.std(energies)) / len(atoms)

    coarse, fine = deviation(0.5), deviation(0.25)
    assert coarse < 1e-3
    assert coarse / fine == pytest.approx(4.0, abs=0.5)


def test_copies_are_independent(trained: TrainedModel, ethanol: Atoms) -> None:
    calculator = trained.ase_calculator("cpu")
    energy = calculator.get_property("energy", ethanol)
    other = copy.deepcopy(calculator)
    assert other.get_property("energy", ethanol) == energy
    ethanol.positions[0] += 0.1
    assert other.get_property("energy", ethanol) != energy
    assert calculator.results["energy"] == energy


def test_gaussian_models_give_standard_deviations(gaussian: TrainedModel, ethanol: Atoms) -> None:
    calculator = gaussian.ase_calculator("cpu")
    deviation = calculator.get_property("energy_std", ethanol)
    assert deviation == pytest.approx(gaussian.predict_with_std([ethanol])[1]["energy"][0])


def test_an_energy_of_another_name(make: Callable[..., TrainedModel], ethanol: Atoms) -> None:
    targets = {"y_graph_scalars": ["gap", "energy"], "y_node_vector": "forces"}
    calculator = make(targets=targets).ase_calculator("cpu")
    assert calculator.get_property("energy", ethanol) != calculator.get_property("gap", ethanol)
    other = make(
        targets={"y_graph_scalars": ["U0"], "y_node_vector": "forces"},
        reference_energies={},
        scale={},
        shift={},
    )
    calculator = other.ase_calculator("cpu")
    assert calculator.get_property("energy", ethanol) == calculator.get_property("U0", ethanol)


def test_a_direct_vector_is_no_force(ethanol: Atoms) -> None:
    import torch

    from macekit.model.build import build_model
    from small_facts import facts

    config = {"hidden_irreps": "4x0e + 4x1o", "max_ell": 1, "correlation": 1, "mlp_irreps": "4x0e", "radial_mlp": [4]}
    for name, expected in (("forces", "direct_forces"), ("velocities", "velocities")):
        targets = {"y_graph_scalars": ["energy"], "y_node_vector": name}
        module = build_model("mace_model", config, facts(targets=targets, shift={}, scale={}), dtype=torch.float64)
        trained = TrainedModel(module)
        ethanol.calc = trained.ase_calculator("cpu")
        direct = ethanol.calc.get_property(expected, ethanol)
        np.testing.assert_allclose(direct, trained.predict(ethanol)[name][0], atol=1e-12)
        numerical = calculate_numerical_forces(ethanol, eps=1e-4, iatoms=[0])
        np.testing.assert_allclose(ethanol.get_forces()[:1], numerical, atol=1e-6)


def test_a_model_without_energy(make: Callable[..., TrainedModel], ethanol: Atoms) -> None:
    import torch

    from macekit.model.build import build_model
    from small_facts import facts

    targets = {"y_graph_scalars": [], "y_node_scalars": ["charges"]}
    config = {"hidden_irreps": "4x0e", "max_ell": 1, "correlation": 1, "mlp_irreps": "4x0e", "radial_mlp": [4]}
    module = build_model("mace_model", config, facts(targets=targets, reference_energies={}), dtype=torch.float64)
    ethanol.calc = TrainedModel(module).ase_calculator("cpu")
    assert ethanol.get_charges().shape == (9,)
    with pytest.raises(PropertyNotImplementedError):
        ethanol.get_potential_energy()


def test_memory_does_not_grow(trained: TrainedModel) -> None:
    calculator = trained.ase_calculator("cpu")
    water = molecule("H2O")

    def evaluate(count: int) -> int:
        for _ in range(count):
            water.positions[0, 0] += 1e-5
            calculator.get_property("forces", water)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    before = evaluate(50)
    assert evaluate(200) - before < 2048  # kB
