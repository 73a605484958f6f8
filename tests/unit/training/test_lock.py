from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from macekit.errors import UsageError
from macekit.training import lock
from macekit.training.lock import run_lock


def written(tmp_path: Path, *, pid: int, host: str, age: float = 0.0) -> None:
    path = tmp_path / "run.lock"
    path.write_text(json.dumps({"pid": pid, "host": host, "since": "2026-01-02 03:04:05"}))
    os.utime(path, (time.time() - age, time.time() - age))


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_second_run_is_refused_and_told_who_holds_it(tmp_path: Path):
    with run_lock(tmp_path) as note:
        assert note is None
        with (
            pytest.raises(UsageError, match=rf"in use by process {os.getpid()} on {socket.gethostname()} \(since 20"),
            run_lock(tmp_path),
        ):
            pass
        assert (tmp_path / "run.lock").exists()
    assert not list(tmp_path.iterdir())
    with run_lock(tmp_path):
        pass


def test_another_process_is_refused_while_it_lives(tmp_path: Path):
    code = "import sys, time\nfrom pathlib import Path\nfrom macekit.training.lock import run_lock\n"
    code += "with run_lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with pytest.raises(UsageError, match=f"in use by process {process.pid} on "), run_lock(tmp_path):
            pass
    finally:
        process.kill()
        process.communicate()
    with run_lock(tmp_path) as note:
        assert note is not None
        assert f"the lock of process {process.pid} on " in note
        assert "no longer runs" in note


def test_the_lock_of_a_dead_process_is_taken_over(tmp_path: Path):
    written(tmp_path, pid=dead_pid(), host=socket.gethostname())
    with run_lock(tmp_path) as note:
        assert note and "is taken over" in note


def test_on_a_file_system_without_locks_the_process_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "_try_lock", lambda descriptor: None)
    written(tmp_path, pid=os.getpid(), host=socket.gethostname())
    with (
        pytest.raises(UsageError, match=r"(?s)in use by process .*if that process is gone, delete"),
        run_lock(tmp_path),
    ):
        pass
    written(tmp_path, pid=dead_pid(), host=socket.gethostname())
    with run_lock(tmp_path) as note:
        assert note


def test_a_machine_that_was_silent_for_minutes_is_dead(tmp_path: Path):
    written(tmp_path, pid=1, host="elsewhere")
    with pytest.raises(UsageError, match="in use by process 1 on elsewhere"), run_lock(tmp_path):
        pass
    written(tmp_path, pid=1, host="elsewhere", age=lock.SILENCE + 10)
    with run_lock(tmp_path) as note:
        assert note
    assert not list(tmp_path.iterdir())


def test_the_lock_is_touched_while_it_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 0.01)
    with run_lock(tmp_path):
        os.utime(tmp_path / "run.lock", (0, 0))
        deadline = time.time() + 10
        while (tmp_path / "run.lock").stat().st_mtime == 0 and time.time() < deadline:
            time.sleep(0.01)
        assert (tmp_path / "run.lock").stat().st_mtime > 0


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/run cannot be written"), run_lock(tmp_path / "file" / "run"):
        pass
