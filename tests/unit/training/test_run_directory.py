from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from macekit.errors import ResumeError, UsageError
from macekit.training.checkpoints import write_checkpoint
from macekit.training.keeper import Keeper
from macekit.training.run_directory import RunDirectory, RunLog


def test_a_fresh_directory_is_made(tmp_path: Path):
    RunDirectory(tmp_path / "a" / "b").prepare(overwrite=False, resume=False)
    assert (tmp_path / "a" / "b" / "train.log").exists()


def test_an_existing_run_is_refused_and_left_alone(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(
        UsageError,
        match=r"already holds a run .metrics\.jsonl.; nothing was changed\nhint: .*run.overwrite=true",
    ):
        RunDirectory(tmp_path).prepare(overwrite=False, resume=False)
    assert (tmp_path / "metrics.jsonl").read_text() == "{}\n"


def test_overwriting_removes_the_run_and_nothing_else(tmp_path: Path):
    directory = RunDirectory(tmp_path)
    directory.metrics.write_text("{}\n")
    (tmp_path / "notes.txt").write_text("mine")
    write_checkpoint(directory.last, {"epoch": 1})
    directory.prepare(overwrite=True, resume=False)
    assert not directory.metrics.exists()
    assert not directory.last.exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_nothing_to_resume_is_said(tmp_path: Path):
    with pytest.raises(UsageError, match="nothing to resume, there is no checkpoints/last"):
        RunDirectory(tmp_path).prepare(overwrite=False, resume=True)


def test_a_run_that_ended_before_its_first_checkpoint_starts_again(tmp_path: Path):
    directory = RunDirectory(tmp_path)
    directory.resolved.write_text("")
    directory.metrics.write_text("{}\n")
    assert directory.prepare(overwrite=False, resume=True) is False
    assert not directory.metrics.exists()
    write_checkpoint(directory.last, {"epoch": 1})
    assert directory.prepare(overwrite=False, resume=True) is True


def test_rows_of_epochs_that_are_done_again_are_dropped(tmp_path: Path):
    directory = RunDirectory(tmp_path)
    for epoch in (1, 2, 3):
        directory.append_metrics({"epoch": epoch})
    with directory.metrics.open("a") as file:
        file.write('{"epoch": 4, "va')
    assert [row["epoch"] for row in directory.read_metrics()] == [1, 2, 3]
    assert directory.rewind_metrics(2) == directory.read_metrics() == [{"epoch": 1}, {"epoch": 2}]


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/run cannot be written"):
        RunDirectory(tmp_path / "file" / "run").prepare(overwrite=False, resume=False)


def test_metrics_are_one_json_per_line_with_null_for_nan(tmp_path: Path):
    directory = RunDirectory(tmp_path)
    assert directory.read_metrics() == []
    directory.append_metrics({"epoch": 1, "val/energy/rmse": float("nan")})
    directory.append_metrics({"epoch": 2, "val/energy/rmse": 0.5})
    assert [json.loads(line) for line in directory.metrics.read_text().splitlines()] == directory.read_metrics()
    assert directory.read_metrics()[0]["val/energy/rmse"] is None


def test_metrics_are_a_table_too_and_are_rewound_with_it(tmp_path: Path):
    directory = RunDirectory(tmp_path)
    for epoch in (1, 2, 3):
        directory.append_metrics({"epoch": epoch, "val/energy/rmse": float("nan") if epoch == 1 else 0.5})
    assert directory.table.read_text().splitlines() == ["epoch,val/energy/rmse", "1,", "2,0.5", "3,0.5"]
    before = directory.table.read_bytes()
    directory.rewind_metrics(2)
    assert before.startswith(directory.table.read_bytes())
    assert directory.table.read_text().splitlines() == ["epoch,val/energy/rmse", "1,", "2,0.5"]
    directory.rewind_metrics(0)
    directory.append_metrics({"epoch": 1})
    assert directory.table.read_text().splitlines() == ["epoch", "1"]


def test_every_start_of_a_run_is_on_record(tmp_path: Path):
    directory = RunDirectory(tmp_path)
    for version in ("1", "2", "3"):
        directory.write_provenance({"macekit": version})
    found = json.loads(directory.provenance.read_text())
    assert found["macekit"] == "3"
    assert [one["macekit"] for one in found["earlier"]] == ["1", "2"]


def test_the_log_goes_to_console_and_file_without_markup_or_bar(tmp_path: Path):
    stream = io.StringIO()
    log = RunLog(tmp_path / "train.log", Console(file=stream, width=80))
    table = Table("a")
    table.add_row("[not markup")
    log.line("[red]as it is[/red]")
    log.show(table)
    with log.progress("epoch 1", 3) as advance:
        advance(0.1)
    assert "[red]as it is[/red]" in stream.getvalue()
    assert "[red]as it is[/red]" in (tmp_path / "train.log").read_text()
    assert "epoch 1" not in stream.getvalue()


def test_other_processes_are_silent(tmp_path: Path):
    stream = io.StringIO()
    log = RunLog(tmp_path / "train.log", Console(file=stream), is_silent=True)
    log.line("text")
    log.show("text")
    assert stream.getvalue() == ""
    assert not (tmp_path / "train.log").exists()


def test_a_checkpoint_of_another_run_is_refused_with_the_difference(tmp_path: Path):
    directory = RunDirectory(tmp_path)
    mine = {"model": {"max_ell": 2}, "training": {"max_epochs": 3}}
    Keeper(directory, "val/total/loss", mine, is_writer=True).write_last({"epoch": 1})
    longer = {"model": {"max_ell": 2}, "training": {"max_epochs": 9}}
    assert Keeper(directory, "val/total/loss", longer, is_writer=True).read_last()["epoch"] == 1
    other = {"model": {"max_ell": 3}, "training": {"max_epochs": 3}}
    with pytest.raises(ResumeError, match=r"another run; model.max_ell: 2 then, 3 now\nhint: "):
        Keeper(directory, "val/total/loss", other, is_writer=True).read_last()
