"""Every damaged, forged or foreign model directory is refused with a message that names the file."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from macekit.errors import ModelFileError
from macekit.interop import native
from macekit.interop.native import load_native, save_native
from models import tiny_model

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_native(
        tiny_model(dtype=torch.float32), tmp_path_factory.mktemp("native") / "model", provenance={"a": 1}
    )


@pytest.fixture
def model(pristine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "model"))


def refused(directory: Path, name: str, match: str = ".") -> str:
    """The message, which names the file or its directory."""
    with pytest.raises(ModelFileError, match=match) as caught:
        load_native(directory)
    message = str(caught.value)
    assert str(directory) in message
    assert name in message
    assert caught.value.exit_code == 4
    return message


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_flipped_bits(model: Path, name: str) -> None:
    content = (model / name).read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(content)
        damaged[generator.integers(len(content))] ^= 1 << int(generator.integers(8))
        (model / name).write_bytes(damaged)
        refused(model, name)
    (model / name).write_bytes(content)
    load_native(model)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.999])
def test_truncated(model: Path, name: str, kept: float) -> None:
    content = (model / name).read_bytes()
    (model / name).write_bytes(content[: int(kept * len(content))])
    refused(model, name)


@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
def test_missing_file(model: Path, name: str) -> None:
    (model / name).unlink()
    refused(model, name)


def test_no_directory(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", CONFIG, "not a macekit model")


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"schema_version": 1}', '{"schema_version": "1"}', "\xff"])
def test_foreign_config(model: Path, text: str) -> None:
    (model / CONFIG).write_text(text, encoding="latin-1")
    refused(model, CONFIG)


def forge(directory: Path, *, tensors: dict[str, Tensor] | None = None, **sections: Any) -> None:
    """Change a model and make the checksums fit again."""
    config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    config |= sections
    if tensors is not None:
        (directory / WEIGHTS).write_bytes(save(tensors))
    config["sha256"] = {
        WEIGHTS: hashlib.sha256((directory / WEIGHTS).read_bytes()).hexdigest(),
        CONFIG: native._digest(config),
    }
    (directory / CONFIG).write_text(json.dumps(config), encoding="utf-8")


NAME = "backbone.layers.0.product.weights"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda tensors: {n: t for n, t in tensors.items() if n != NAME}, f"missing {NAME}"),
        (lambda tensors: tensors | {"backbone.more": torch.ones(2)}, "not expected backbone.more"),
        (lambda tensors: tensors | {NAME: tensors[NAME].double()}, f"{NAME} is torch.float64"),
        (lambda tensors: tensors | {NAME: tensors[NAME][:1].clone()}, f"{NAME} is torch.float32 .* expected"),
        (lambda tensors: {}, "missing backbone.embedding"),
    ],
    ids=["missing", "extra", "dtype", "shape", "empty"],
)
def test_forged_tensors(model: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]], match: str) -> None:
    forge(model, tensors=change(load((model / WEIGHTS).read_bytes())))
    refused(model, WEIGHTS, match)


def test_not_safetensors(model: Path) -> None:
    (model / WEIGHTS).write_bytes(b"\x80\x04 a pickle would start like this")
    forge(model)
    refused(model, WEIGHTS, "not a safetensors file")


def test_later_schema(model: Path) -> None:
    later = native.SCHEMA_VERSION + 1
    forge(model, schema_version=later, macekit_version="9.1")
    assert "9.1: upgrade macekit" in refused(model, CONFIG, f"schema version {later}")


def test_earlier_schema(model: Path) -> None:
    """Models of schema version 1 know nothing of levels of theory."""
    before = load_native(model)
    facts = json.loads((model / CONFIG).read_text(encoding="utf-8"))["facts"]
    del facts["heads"], facts["default_head"]
    forge(model, schema_version=1, facts=facts)
    after = load_native(model)
    assert after.facts == before.facts
    assert all(torch.equal(value, after.state_dict()[name]) for name, value in before.state_dict().items())


def test_edited_config(model: Path) -> None:
    config = json.loads((model / CONFIG).read_text(encoding="utf-8"))
    config["facts"]["cutoff"] = 3.3
    (model / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    refused(model, CONFIG, "damaged or edited")


@pytest.mark.parametrize(
    "section",
    [
        {"dtype": "float16"},
        {"model": {"name": "mace_model", "ration": 3}},
        {"model": []},
        {"facts": {"elements": []}},
    ],
    ids=["dtype", "key", "type", "value"],
)
def test_unusable_sections(model: Path, section: dict[str, Any]) -> None:
    forge(model, **section)
    refused(model, CONFIG, "not a usable configuration")


def test_no_checksums(model: Path) -> None:
    config = json.loads((model / CONFIG).read_text(encoding="utf-8"))
    for checksums in (None, [], "none", {}):
        (model / CONFIG).write_text(json.dumps(config | {"sha256": checksums}), encoding="utf-8")
        refused(model, CONFIG, "damaged or edited")


def test_saving_over_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "important.txt").write_text("keep")
    with pytest.raises(ModelFileError, match="notes: exists and is not a macekit model"):
        save_native(tiny_model(), tmp_path / "notes")
    assert (tmp_path / "notes" / "important.txt").read_text() == "keep"


def test_saving_over_a_model_replaces_it(model: Path) -> None:
    other = tiny_model(seed=9)
    save_native(other, model)
    assert torch.equal(load_native(model).backbone.embedding, other.backbone.embedding)
    assert sorted(path.name for path in model.parent.iterdir()) == ["model"], "something temporary was left behind"


def test_failed_saving_leaves_the_old_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in model.iterdir()}

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(native, "_write", full)
    with pytest.raises(ModelFileError, match="cannot write the model: No space left on device"):
        save_native(tiny_model(seed=9), model)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    assert sorted(path.name for path in model.parent.iterdir()) == ["model"]


def test_provenance_with_awkward_values(tmp_path: Path) -> None:
    provenance = {"steps": (1, 2), "names": {"ä": "Å"}, 10: "ten", 9: "nine", "tiny": 1e-300}
    load_native(save_native(tiny_model(), tmp_path / "model", provenance=provenance))
