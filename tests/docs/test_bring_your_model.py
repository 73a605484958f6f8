"""The page "Bring your model" is run from top to bottom, on small models in the place of the reader's."""

from __future__ import annotations

import re
import shlex
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from typer.testing import CliRunner

import macekit
from macekit.cli import app
from macekit.interop.native import save_native
from macekit.model.build import build_model
from small_facts import facts

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guides" / "bring-your-model.md"
FIXTURES = ROOT / "tests" / "interop"
CONFIG = {"y_graph_scalars_loss_config": {"name": "MSELoss"}, "datamodule": {"y_graph_scalars": ["energy"]}}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the page takes for granted: models of three packages, and structures."""
    for archive, member, name in (
        ("fixtures/models.tar.xz", "heads.model", "my_mace.model"),
        ("fixtures_physicsml/models.tar.xz", "ssf", "physicsml_model"),
    ):
        with tarfile.open(FIXTURES / archive) as models:
            models.extractall(tmp_path, filter="data")
        (tmp_path / member).rename(tmp_path / name)
    targets = {"y_graph_scalars": ["energy"], "y_node_vector": "forces"}
    choices = {"hidden_irreps": "4x0e + 4x1o", "max_ell": 2, "correlation": 2, "compute_forces": True}
    own = build_model("mace_model", choices, facts(targets=targets))
    save_native(own, tmp_path / "my_own_model")
    write(tmp_path / "structures.xyz", [molecule("H2O"), molecule("CH3OH")])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def steps() -> list[tuple[str, str]]:
    """Every block of commands and code, in the order of the page."""
    return re.findall(r"^```(bash|python)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def carry_out(command: str) -> str:
    words = shlex.split(command)
    assert words[0] == "macekit", command
    result = CliRunner().invoke(app, words[1:])
    assert result.exit_code == 0, f"{command}\n{result.output}"
    return result.output


def test_the_page_from_top_to_bottom(desk: Path) -> None:
    atoms: Atoms = molecule("CH3CH2OH")
    names: dict[str, Any] = {"atoms": atoms, "config": CONFIG}
    printed: dict[str, str] = {}
    for language, text in steps():
        if language == "bash":
            printed |= {line: carry_out(line) for line in text.splitlines()}
        else:
            exec(text, names)  # the code of our own page
    assert len(printed) >= 8

    assert names["model"].heads == ("pbe", "Default", "r2scan")
    assert atoms.calc is not None
    energies = {head: float(names["model"].predict([molecule("H2O")], head=head)["energy"][0]) for head in ("pbe",)}
    smaller = macekit.load_model(desk / "my_smaller_mace", device="cpu")
    assert smaller.elements == ("H", "O")
    assert float(smaller.predict([molecule("H2O")])["energy"][0]) == energies["pbe"]
    assert macekit.load_model(desk / "my_small_mace", device="cpu").heads == names["model"].heads
    assert macekit.load_model(desk / "my_r2scan", device="cpu").heads == ("r2scan",)
    found: Any = read(desk / "in_pbe.xyz", 0)
    assert found.info["macekit_energy"] == pytest.approx(energies["pbe"], abs=1e-7)
    np.testing.assert_array_equal(names["in_pbe"]["energy"], names["alone"].predict([atoms])["energy"])
    assert "r2scan" in printed["macekit info my_mace.model"]
    assert '"default_head": "Default"' in printed["macekit info my_mace --json"]
    again = carry_out("macekit convert for_physicsml back")
    assert "mace_model" in again
    assert names["run"].data.train == ["train.xyz"]
