"""Run files: reading, overriding, resolving paths, writing back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from macekit.config.loading import dump_run, load_run, read_yaml
from macekit.config.run import TrainingRun
from macekit.errors import ConfigError

MINIMAL = """\
model:
  y_graph_scalars_loss_config: {name: MSELoss}
data:
  train: train.xyz
"""


def minimal() -> dict[str, Any]:
    return {"model": {"y_graph_scalars_loss_config": {"name": "MSELoss"}}, "data": {"train": "train.xyz"}}


@pytest.fixture
def run_file(tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(MINIMAL)
    return path


def message_of(source: Any, overrides: Any = ()) -> str:
    with pytest.raises(ConfigError) as caught:
        load_run(source, overrides)
    return str(caught.value)


def test_a_file_and_its_mapping_give_the_same_run_but_for_the_folder(run_file: Path) -> None:
    from_file, from_mapping = load_run(run_file), load_run(minimal())
    assert from_file.data.train == [str(run_file.parent / "train.xyz")]
    assert from_mapping.data.train == ["train.xyz"]
    assert from_file.model == from_mapping.model
    assert from_file.training == from_mapping.training


def test_str_and_path_are_both_accepted(run_file: Path) -> None:
    assert load_run(str(run_file)) == load_run(run_file)


def test_all_data_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(
        "model: {y_graph_scalars_loss_config: {name: MSELoss}}\n"
        "data:\n"
        "  train: [a.xyz, {file: sub/b.xyz, weight: 2}, /absolute/c.xyz]\n"
        "  validation: v.xyz\n"
        "  test: {300 K: t.xyz, 600 K: [u.xyz, ../w.xyz]}\n"
        "run: {directory: runs/here}\n"
    )
    run = load_run(path, ["data.validation=[x.xyz]"])
    files = [item if isinstance(item, str) else item.file for item in run.data.train]
    assert files == [str(tmp_path / "a.xyz"), str(tmp_path / "sub/b.xyz"), "/absolute/c.xyz"]
    assert run.data.validation == [str(tmp_path / "x.xyz")]
    assert run.data.test["600 K"] == [str(tmp_path / "u.xyz"), str(tmp_path / "../w.xyz")]
    assert run.run.directory == "runs/here"


def test_a_run_with_overrides_is_a_new_run_and_the_mapping_is_untouched(run_file: Path) -> None:
    run = load_run(run_file)
    changed = load_run(run, {"training.max_epochs": 7})
    assert changed.training.max_epochs == 7
    assert run.training.max_epochs == 100
    assert changed.data == run.data
    values = minimal()
    load_run(values, {"data.train": "other.xyz", "training.ema": None})
    assert values == minimal()


@pytest.mark.parametrize(
    ("override", "section", "field", "value"),
    [
        ("training.max_epochs=10", "training", "max_epochs", 10),
        ("training.ema=null", "training", "ema", None),
        ("data.cutoff=4.5", "data", "cutoff", 4.5),
        ("run.device=cuda:1", "run", "device", "cuda:1"),
        ("model.compute_forces=false", "model", "compute_forces", False),
        ("model.hidden_irreps=8x0e + 8x1o", "model", "hidden_irreps", "8x0e + 8x1o"),
        ("data.keys={energy: REF_energy}", "data", "keys", {"energy": "REF_energy"}),
        ("data.keys.energy=REF_energy", "data", "keys", {"energy": "REF_energy"}),
    ],
)
def test_override(override: str, section: str, field: str, value: Any) -> None:
    assert getattr(getattr(load_run(minimal(), [override]), section), field) == value


def test_an_override_of_a_part_keeps_the_other_defaults() -> None:
    run = load_run(minimal(), ["training.optimizer.config.lr=5e-4"])
    assert run.training.optimizer.config == {"lr": 5e-4, "amsgrad": True, "weight_decay": 5e-7}
    assert load_run(minimal(), ["training.scheduler.config.patience=3"]).training.scheduler is not None


def test_arguments_of_the_default_optimizer_do_not_reach_another_one() -> None:
    overrides = ["training.optimizer.config.lr=0.1", "training.optimizer.name=SGD"]
    assert load_run(minimal(), overrides).training.optimizer.config == {"lr": 0.1}


def test_lists_are_overridden_by_index() -> None:
    values = minimal() | {"data": {"train": [{"file": "a.xyz"}, "b.xyz"]}}
    run = load_run(values, ["data.train.0.weight=3", "data.train.1=c.xyz"])
    assert run.data.train[0].weight == 3  # type: ignore[union-attr]
    assert run.data.train[1] == "c.xyz"


def test_null_sections_can_be_overridden() -> None:
    values = minimal() | {"training": {"scheduler": None}}
    assert load_run(values).training.scheduler is None
    scheduler = load_run(values, ["training.scheduler.name=ExponentialLR"]).training.scheduler
    assert scheduler is not None
    assert scheduler.name == "ExponentialLR"


@pytest.mark.parametrize(
    ("override", "words"),
    [
        (
            "training.max_epoch=3",
            ["override training.max_epoch", "unknown key", "did you mean 'max_epochs'?"],
        ),
        ("trainig.max_epochs=3", ["unknown key (TrainingRun has", "did you mean 'training'?"]),
        ("training.max_epochs", ["'training.max_epochs'", "expected key=value"]),
        ("=3", ["expected key=value"]),
        (
            "data.train.weight=3",
            ["data.train is 'train.xyz'", "no part 'weight'", "give data.train as a whole"],
        ),
        ("model.name.kind=3", ["model.name is 'mace_model'"]),
        ("training.max_epochs=[", ["override training.max_epochs: line 1"]),
        ("training.max_epochs=ten", ["training.max_epochs: expected a whole number, got 'ten'"]),
    ],
)
def test_bad_override(override: str, words: list[str]) -> None:
    message = message_of(minimal(), [override])
    assert all(word in message for word in words), message


def test_bad_index() -> None:
    values = minimal() | {"data": {"train": ["a.xyz", "b.xyz"]}}
    assert "a list of 2; expected an index from 0 to 1, got '2'" in message_of(values, ["data.train.2=c"])
    assert "got 'x'" in message_of(values, ["data.train.x=c"])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {a: 1\n", ["run.yaml: line 2, column 1:"]),
        ("data:\n\ttrain: a\n", ["line 2, column 1", "replace the tabs"]),
        ("data:\n  train: a\n  train: b\n", ["line 3, column 3: key 'train' is given twice"]),
        ("", ["the file is empty; expected sections preset, model, data, training, finetune, run"]),
        ("- a\n", ["expected a mapping of sections, got list"]),
        ("data: {train: a: b}\n", ["line 1"]),
        ("data: !!python/object:os.system {}\n", ["line 1, column 7", "could not determine a constructor"]),
        ("data: \x01\n", ["not YAML: character 6"]),
    ],
)
def test_bad_file(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    message = message_of(path)
    assert all(word in message for word in [str(path), *words]), message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_bytes(b"model: \xff\xfe")
    assert "expected UTF-8 text, byte 7" in message_of(tmp_path / "run.yaml")
    assert "run.yml: no such file\nhint: did you mean 'run.yaml'?" in message_of(tmp_path / "run.yml")
    assert "no such file" in message_of(tmp_path / "absent" / "run.yaml")
    assert "this is a directory" in message_of(tmp_path)
    assert "got int" in message_of(3)


def test_scalars_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text(
        "\ufeffa: 5e-7\nb: 1.0E3\nc: -.5\nd: .inf\ne: No\nf: on\ng: 010\nh: 2024-01-01\ni: true\nj: ~\nk: 1:30\nl:\n",
        encoding="utf-8",
    )
    assert read_yaml(path) == {
        "a": 5e-7, "b": 1000.0, "c": -0.5, "d": float("inf"), "e": "No", "f": "on", "g": 10,
        "h": "2024-01-01", "i": True, "j": None, "k": "1:30", "l": None,
    }  # fmt: skip


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    path = tmp_path / "values.yaml"
    path.write_text("a: &loss {name: MSELoss, weight: 1}\nb: {<<: *loss, weight: 2}\n")
    assert read_yaml(path)["b"] == {"name": "MSELoss", "weight": 2}


def test_the_resolved_run_reads_back_equal(tmp_path: Path, run_file: Path) -> None:
    run = load_run(run_file, {"data.test": {"300 K": "größe.xyz"}, "training.ema": None, "training.batch_edges": 200})
    copy = tmp_path / "resolved.yaml"
    copy.write_text(dump_run(run), encoding="utf-8")
    assert load_run(copy) == run
    assert isinstance(load_run(copy), TrainingRun)
