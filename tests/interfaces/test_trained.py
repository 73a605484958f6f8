"""The Python facade: loading, predicting, saving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule

import macekit
from macekit.data.structure import Structure
from macekit.errors import DataError, ModelFileError, UsageError
from macekit.interfaces.trained import TrainedModel


def test_attributes(trained: TrainedModel) -> None:
    assert trained.elements == ("H", "C", "O", "Al", "Cu")
    assert trained.cutoff == 3.5
    assert trained.config.name == "mace_model"
    assert trained.facts is trained.module.facts
    assert trained.targets == {
        "energy": "graph_scalar",
        "dipole": "graph_vector",
        "charges": "node_scalar",
        "forces": "node_vector",
        "stress": "stress",
    }
    assert repr(trained) == (
        "TrainedModel(mace_model, elements=H C O Al Cu, cutoff=3.5 Å, targets=energy, dipole, charges, forces, stress)"
    )


def test_predictions_by_target(trained: TrainedModel, ethanol: Atoms, metal: Atoms) -> None:
    found = trained.predict([ethanol, metal])
    assert set(found) == set(trained.targets)
    assert np.shape(found["energy"]) == (2,)
    assert np.shape(found["dipole"]) == (2, 3)
    assert np.shape(found["stress"]) == (2, 3, 3)
    assert [np.shape(item) for item in found["forces"]] == [(9, 3), (4, 3)]
    assert [np.shape(item) for item in found["charges"]] == [(9,), (4,)]
    assert np.isnan(found["stress"][0]).all()
    assert np.isfinite(found["stress"][1]).all()
    assert all(np.asarray(item).dtype == np.float64 for values in found.values() for item in values)


def test_batched_and_single_predictions_agree(trained: TrainedModel, ethanol: Atoms, metal: Atoms) -> None:
    together, alone = trained.predict([metal, ethanol]), trained.predict(ethanol)
    assert alone["energy"].shape == (1,)  # type: ignore[union-attr]
    assert together["energy"][1] == pytest.approx(alone["energy"][0], rel=1e-12)
    np.testing.assert_allclose(together["forces"][1], alone["forces"][0], atol=1e-12)


def test_structures_and_atoms_are_the_same(trained: TrainedModel, ethanol: Atoms) -> None:
    mine = Structure.from_ase(ethanol)
    assert trained.predict([mine])["energy"][0] == trained.predict([ethanol])["energy"][0]
    assert trained.predict(mine)["energy"][0] == trained.predict((ethanol,))["energy"][0]


def test_nothing_in_nothing_out(trained: TrainedModel, gaussian: TrainedModel) -> None:
    found = trained.predict([])
    assert set(found) == set(trained.targets)
    assert all(len(values) == 0 for values in found.values())
    mean, std = gaussian.predict_with_std([])
    assert len(mean["energy"]) == len(std["energy"]) == 0
    _, interval = gaussian.predict_with_prediction_interval([])
    assert interval["energy"].shape == (0, 2)  # type: ignore[union-attr]


def test_standard_deviations(gaussian: TrainedModel, ethanol: Atoms, metal: Atoms) -> None:
    mean, std = gaussian.predict_with_std([ethanol, metal])
    assert set(std) == {"energy"}
    assert set(mean) == set(gaussian.targets)
    assert np.shape(std["energy"]) == (2,)
    assert (np.asarray(std["energy"]) > 0).all()
    np.testing.assert_allclose(mean["energy"], gaussian.predict([ethanol, metal])["energy"])


def test_prediction_intervals(gaussian: TrainedModel, ethanol: Atoms) -> None:
    mean, std = gaussian.predict_with_std([ethanol])
    same_mean, interval = gaussian.predict_with_prediction_interval([ethanol], confidence=0.95)
    np.testing.assert_allclose(same_mean["energy"], mean["energy"])
    centre, deviation = np.asarray(mean["energy"]), np.asarray(std["energy"])
    expected = np.stack([centre - 1.959964 * deviation, centre + 1.959964 * deviation], axis=-1)
    np.testing.assert_allclose(interval["energy"], expected, rtol=1e-6)
    wide = gaussian.predict_with_prediction_interval([ethanol])[1]["energy"]
    assert np.ptp(wide) == pytest.approx(2 * 1.644854 * deviation[0], rel=1e-6)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95, -0.5, float("nan")])
def test_bad_confidence(gaussian: TrainedModel, ethanol: Atoms, confidence: float) -> None:
    with pytest.raises(UsageError, match="confidence: expected a number between 0 and 1"):
        gaussian.predict_with_prediction_interval([ethanol], confidence)


def test_no_variance(trained: TrainedModel, ethanol: Atoms) -> None:
    with pytest.raises(UsageError, match=r"mace_model.* has no standard deviations; a mean_var_mace_model has them"):
        trained.predict_with_std([ethanol])
    with pytest.raises(UsageError, match="no standard deviations"):
        trained.predict_with_prediction_interval([ethanol])


@pytest.mark.parametrize(
    ("structures", "kind", "match"),
    [
        (
            [molecule("H2O"), Atoms("He")],
            DataError,
            "structure 1: model knows H, C, O, Al, Cu; structure has He",
        ),
        ([Atoms("H", [[np.nan, 0, 0]])], DataError, "structure 0: position of atom 0"),
        (["water.xyz"], UsageError, "structure 0: expected ASE Atoms or macekit.Structure, got str"),
        ([molecule("H2O"), None], UsageError, "structure 1: expected ASE Atoms"),
    ],
)
def test_bad_structures(trained: TrainedModel, structures: Any, kind: type[Exception], match: str) -> None:
    with pytest.raises(kind, match=match):
        trained.predict(structures)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saved_and_loaded(
    make: Callable[..., TrainedModel], tmp_path: Path, ethanol: Atoms, dtype: torch.dtype
) -> None:
    original = make(dtype=dtype)
    original.provenance = {"note": "made for a test"}
    original.save(tmp_path / "model")
    for path in (tmp_path / "model", str(tmp_path / "model")):
        loaded = macekit.load_model(path, device="cpu")
        assert loaded.module.dtype == dtype
        assert loaded.config == original.config
        assert loaded.facts == original.facts
        assert not loaded.module.training
        assert loaded.provenance == original.provenance
        np.testing.assert_array_equal(loaded.predict(ethanol)["energy"], original.predict(ethanol)["energy"])


def test_precision_on_loading(make: Callable[..., TrainedModel], tmp_path: Path, ethanol: Atoms) -> None:
    make(dtype=torch.float32).save(tmp_path / "model")
    double = macekit.load_model(tmp_path / "model", dtype="float64")
    assert double.module.dtype == torch.float64
    with pytest.raises(UsageError, match="dtype: expected 'float32' or 'float64', got 'half'"):
        macekit.load_model(tmp_path / "model", dtype="half")  # type: ignore[arg-type]


def test_paths_without_a_model(trained: TrainedModel, tmp_path: Path) -> None:
    def message_of(path: Path) -> str:
        with pytest.raises(ModelFileError) as caught:
            macekit.load_model(path)
        assert caught.value.exit_code == 4
        return str(caught.value)

    assert "no such directory; expected one with config.json" in message_of(tmp_path / "absent")
    assert "no config.json in this directory" in message_of(tmp_path)
    trained.save(tmp_path / "model")
    assert f"did you mean '{tmp_path / 'model'}'?" in message_of(tmp_path)
    assert f"load the directory: {tmp_path / 'model'}" in message_of(tmp_path / "model" / "config.json")
    (tmp_path / "model" / "model.safetensors").unlink()
    assert "no model.safetensors in this directory" in message_of(tmp_path / "model")


@pytest.mark.parametrize("suffix", [".model", ".pt", ".pth", ".ckpt", ".MODEL"])
def test_pickles_are_never_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"old{suffix}"
    path.write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")
    with pytest.raises(ModelFileError, match="a legacy pickle is never read here") as caught:
        macekit.load_model(path)
    assert f"macekit convert {path.name} OUT" in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_devices(trained: TrainedModel, tmp_path: Path) -> None:
    trained.save(tmp_path / "model")
    with pytest.raises(UsageError, match="device: expected auto, cpu, cuda or cuda:N, got 'gpu'"):
        macekit.load_model(tmp_path / "model", device="gpu")


def test_nothing_global_is_touched(trained: TrainedModel, ethanol: Atoms) -> None:
    def state() -> list[Any]:
        numpy_state = np.random.get_state()[1]  # noqa: NPY002
        return [
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.random.get_rng_state().tolist(),
            *numpy_state,
        ]

    before = state()
    trained.predict(ethanol)
    trained.ase_calculator("cpu", dtype="float32").get_property("forces", ethanol)
    assert state() == before
