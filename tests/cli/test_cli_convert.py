"""`macekit convert` and `macekit info`, on models of mace-torch and on files that are none."""

from __future__ import annotations

import json
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
from ase.build import molecule
from typer.testing import CliRunner

import macekit
from macekit.cli import app
from macekit.errors import ModelFileError

MODELS = Path(__file__).resolve().parents[1] / "interop" / "fixtures" / "models.tar.xz"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    with tarfile.open(MODELS) as archive:
        archive.extractall(folder, filter="data")
    return folder


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_a_converted_model_is_a_model(files: Path, tmp_path: Path) -> None:
    code, printed = run("convert", files / "density.model", tmp_path / "out")
    assert code == 0
    assert "wrote" in printed and "3 elements, ScaleShiftMACE" in printed
    model = macekit.load_model(tmp_path / "out")
    assert model.provenance["converted_from"] == "mace-torch"
    atoms = molecule("CH3OH")
    expected = model.predict([atoms])["energy"][0]
    atoms.calc = model.ase_calculator()
    assert atoms.get_potential_energy() == pytest.approx(expected, abs=1e-9)


def test_elements_are_kept(files: Path, tmp_path: Path) -> None:
    for number, words in enumerate((["--elements", "O", "H"], ["--elements", "H,O"], ["--elements", "H O"])):
        assert run("convert", files / "agnostic.model", tmp_path / f"out{number}", *words)[0] == 0
        assert macekit.load_model(tmp_path / f"out{number}").elements == ("H", "O")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--elements", "Hx"], "'Hx' is no chemical symbol"),
        (["--elements", "H", "Fe"], "elements Fe: the model does not know them; it knows H, C, O"),
        (["H"], "unexpected H after OUT"),
        (["--head", "pb"], "head 'pb': the model has pbe, Default, r2scan\nhint: did you mean 'pbe'?"),
    ],
)
def test_wrong_choices(words: list[str], message: str, files: Path, tmp_path: Path) -> None:
    code, printed = run("convert", files / "heads.model", tmp_path / "out", *words)
    assert code in (2, 4)
    assert message in printed
    assert not (tmp_path / "out").exists()


def test_malice_is_refused(tmp_path: Path) -> None:
    class Malice:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path / 'marker'}",)

    with zipfile.ZipFile(tmp_path / "evil.model", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Malice(), protocol=2))
    for verb in (["convert", tmp_path / "evil.model", tmp_path / "out"], ["info", tmp_path / "evil.model"]):
        code, printed = run(*verb)
        assert code == 4
        assert "system has no place in a model file; nothing in the file was executed" in printed
    assert not (tmp_path / "marker").exists()
    with pytest.raises(ModelFileError, match=r"never read here(.|\n)*macekit convert evil\.model OUT"):
        macekit.load_model(tmp_path / "evil.model")


def test_info_of_a_file_and_of_its_directory(files: Path, tmp_path: Path) -> None:
    file = files / "density_residual_zbl_agnesi.model"
    run("convert", file, tmp_path / "out")
    before, after = (json.loads(run("info", path, "--json")[1]) for path in (file, tmp_path / "out"))
    assert before["format"] == "mace-torch"
    assert after["format"].startswith("macekit")
    assert before["elements"] == after["elements"] == ["H", "C", "O"]
    assert before["architecture"]["interactions"] == ["density_residual"] * 2
    assert after["architecture"]["interaction"] == "density_residual"
    assert before["heads"]["Default"] == after["heads"]["default"]
    assert after["predicts"] == ["energy", "forces", "stress"]
    assert after["provenance"]["sha256"] == before["sha256"]
    code, text = run("info", tmp_path / "out")
    assert code == 0
    for words in ("density_residual", "agnesi", "zbl", "H -13.6", "cutoff", "4 Å", after["sha256"]):
        assert words in text


def test_info_lists_heads(files: Path) -> None:
    summary = json.loads(run("info", files / "heads.model", "--json")[1])
    assert list(summary["heads"]) == ["pbe", "Default", "r2scan"]
    assert summary["heads"]["Default"]["energy"]["scale"] == 1.5


def test_info_of_nothing(tmp_path: Path) -> None:
    code, printed = run("info", tmp_path)
    assert code == 4
    assert "not a macekit model" in printed
