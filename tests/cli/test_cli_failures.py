"""What a failing command prints, and its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from macekit import errors
from macekit.cli.failures import reported_failures


def leave_by(error: BaseException, log_directory: Path | None = None) -> int:
    with pytest.raises(SystemExit) as caught, reported_failures(log_directory):
        raise error
    code = caught.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, 2),
        (errors.UsageError, 2),
        (errors.BackendUnavailable, 2),
        (errors.DataError, 3),
        (errors.NonFiniteError, 3),
        (errors.ModelFileError, 4),
        (errors.ResumeError, 5),
    ],
)
def test_deliberate_errors(kind: type[errors.MacekitError], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave_by(kind("run.yaml: bad", "do this")) == code
    captured = capsys.readouterr()
    assert captured.err == "error: run.yaml: bad\nhint: do this\n"
    assert captured.out == ""


def test_no_hint_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    leave_by(errors.DataError("bad"))
    assert capsys.readouterr().err == "error: bad\n"


def test_unexpected_errors_leave_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert leave_by(KeyError("lost"), tmp_path) == 1
    message = capsys.readouterr().err
    assert message.startswith("error: unexpected KeyError: 'lost'\n")
    assert "Traceback" not in message
    assert str(tmp_path / "error.log") in message
    assert "Traceback" in (tmp_path / "error.log").read_text()


def test_the_log_goes_to_the_current_directory_where_there_is_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    leave_by(RuntimeError(), tmp_path / "absent")
    assert "RuntimeError" in (tmp_path / "error.log").read_text()


def test_every_rank_has_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    leave_by(RuntimeError("x"), tmp_path)
    assert (tmp_path / "error-rank1.log").exists()


def test_without_a_place_for_the_log_the_traceback_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "error.log").mkdir()
    leave_by(RuntimeError("x"), tmp_path)
    message = capsys.readouterr().err
    assert "Traceback" in message
    assert "could not be written" in message


def test_interrupt(capsys: pytest.CaptureFixture[str]) -> None:
    assert leave_by(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_success_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with reported_failures():
        pass
    assert capsys.readouterr() == ("", "")
