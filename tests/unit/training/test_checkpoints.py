from __future__ import annotations

import errno
import json
from collections import Counter, OrderedDict
from pathlib import Path

import pytest
import torch

from macekit.errors import ModelFileError, ResumeError
from macekit.training.checkpoints import (
    has_checkpoint,
    read_checkpoint,
    read_plain,
    remove_checkpoint,
    write_checkpoint,
)

STATE = {
    "epoch": 3,
    "best": float("inf"),
    "optimizer": {
        "state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.randn(3, 2, dtype=torch.float64)}},
        "param_groups": [{"lr": 0.01, "betas": (0.9, 0.999), "params": [0], "foreach": None}],
    },
    "scheduler": {"milestones": Counter({3: 1}), "last_lr": [0.1 + 0.2]},
    "weights": OrderedDict(a=torch.arange(4), b=torch.zeros(0, 3)),
}


def equal(first, second):
    if isinstance(first, torch.Tensor):
        return torch.equal(first, second) and first.dtype == second.dtype
    if isinstance(first, dict):
        return list(first) == list(second) and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return type(first) is type(second) and all(map(equal, first, second))
    return first == second


def test_round_trip_is_exact(tmp_path: Path):
    write_checkpoint(tmp_path / "last", STATE)
    assert equal(read_checkpoint(tmp_path / "last"), STATE)
    json.loads((tmp_path / "last" / "state.json").read_text(), parse_constant=pytest.fail)


def test_the_new_one_replaces_the_old_one(tmp_path: Path):
    write_checkpoint(tmp_path / "last", STATE)
    before = {path.name for path in (tmp_path / "last").iterdir()}
    write_checkpoint(tmp_path / "last", {**STATE, "weights": torch.ones(3)})
    after = {path.name for path in (tmp_path / "last").iterdir()}
    assert torch.equal(read_checkpoint(tmp_path / "last")["weights"], torch.ones(3))
    assert before & after == {"state.json"}
    assert len(after) == 2


def test_the_same_tensors_again_are_no_accident(tmp_path: Path):
    write_checkpoint(tmp_path / "last", STATE)
    write_checkpoint(tmp_path / "last", {**STATE, "epoch": 4})
    assert read_checkpoint(tmp_path / "last")["epoch"] == 4
    assert len(list((tmp_path / "last").iterdir())) == 2


def test_a_failed_write_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_checkpoint(tmp_path / "last", STATE)
    with pytest.raises(TypeError, match="epoch is a object"):
        write_checkpoint(tmp_path / "last", {"epoch": object()})
    replace, calls = Path.replace, []

    def full(self, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(ModelFileError, match=r"last: the checkpoint cannot be written \(No space left on device\)"):
        write_checkpoint(tmp_path / "last", {**STATE, "epoch": 4, "weights": torch.ones(3)})
    assert equal(read_checkpoint(tmp_path / "last"), STATE)


def test_what_a_dead_process_left_is_swept_away(tmp_path: Path):
    write_checkpoint(tmp_path / "last", STATE)
    for name in ("tensors.partial", "state.json.partial", "tensors-0123.safetensors"):
        (tmp_path / "last" / name).write_text("half")
    assert equal(read_checkpoint(tmp_path / "last"), STATE)
    write_checkpoint(tmp_path / "last", {**STATE, "epoch": 4})
    assert len(list((tmp_path / "last").iterdir())) == 2
    remove_checkpoint(tmp_path / "last")
    assert not list(tmp_path.iterdir())


def test_missing_tensors_are_named(tmp_path: Path):
    write_checkpoint(tmp_path / "last", STATE)
    next((tmp_path / "last").glob("tensors-*")).unlink()
    with pytest.raises(ResumeError, match=r"no readable checkpoint \(tensors-\w+\.safetensors is missing\)"):
        read_checkpoint(tmp_path / "last")


def test_the_plain_part_needs_no_tensors(tmp_path: Path):
    write_checkpoint(tmp_path / "last", STATE)
    assert read_plain(tmp_path / "last")["epoch"] == 3


def test_a_flipped_bit_is_found(tmp_path: Path):
    write_checkpoint(tmp_path / "last", STATE)
    file = next((tmp_path / "last").glob("tensors-*"))
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(ResumeError, match=r"tensors-\w+\.safetensors: damaged: sha256"):
        read_checkpoint(tmp_path / "last")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"schema": 1}'])
def test_a_damaged_state_is_named(content: str, tmp_path: Path):
    write_checkpoint(tmp_path / "last", STATE)
    (tmp_path / "last" / "state.json").write_text(content)
    with pytest.raises(ResumeError, match="no readable checkpoint"):
        read_checkpoint(tmp_path / "last")


def test_another_layout_is_refused(tmp_path: Path):
    write_checkpoint(tmp_path / "last", STATE)
    file = tmp_path / "last" / "state.json"
    file.write_text(file.read_text().replace('"schema": 2', '"schema": 99'))
    with pytest.raises(ResumeError, match="checkpoint layout 99, and this version of macekit reads 2"):
        read_checkpoint(tmp_path / "last")


def test_nothing_there_is_said(tmp_path: Path):
    assert not has_checkpoint(tmp_path / "last")
    with pytest.raises(ResumeError, match="no readable checkpoint"):
        read_checkpoint(tmp_path / "last")
