"""One run at a time in a run directory.

The lock is held by the operating system (`flock`) as long as the process lives, so that of a dead process is free.
Where a network file system does not carry it to other machines, the file says who holds it and is touched every half
minute: a lock of another machine that has not been touched for minutes is that of a dead process.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from macekit.errors import UsageError

NAME: Final = "run.lock"
"""Name of the file in the run directory."""
HEARTBEAT: Final = 30.0
"""Seconds between touches."""
SILENCE: Final = 300.0
"""Seconds without a touch after which a lock of another machine is that of a dead process."""


@contextmanager
def run_lock(directory: Path) -> Iterator[str | None]:
    """Hold the lock of a run directory.

    Args:
        directory: The run directory; made if it is not there.

    Yields:
        A sentence about a dead process whose lock was taken over, or None.

    Raises:
        UsageError: If another process holds it, naming process and machine, or the directory cannot be written.
    """
    path = directory / NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor, before = _acquired(path)
    except OSError as error:
        raise UsageError(f"run.directory: {directory} cannot be written: {error.strerror}") from None
    ended = threading.Event()
    heart = threading.Thread(target=_beat, args=(path, ended), daemon=True)
    try:
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(me).encode(), 0)
        heart.start()
        yield f"the lock of {_who(before)} is taken over: that process no longer runs" if before else None
    finally:
        ended.set()
        if heart.is_alive():
            heart.join()
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _acquired(path: Path) -> tuple[int, dict[str, Any]]:
    """The locked file, and who was in it before."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            free = _try_lock(descriptor)
            owner = _owner(descriptor)
            if free is False or (owner and _is_alive(owner, path, has_flock=free is True)):
                raise UsageError(
                    f"run.directory: {path.parent} is in use by {_who(owner)}; nothing was changed",
                    f"wait for it, or give another run.directory; if that process is gone, delete {path}",
                )
            if path.exists() and os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor, owner
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its owner has just removed it: once more


def _try_lock(descriptor: int) -> bool | None:
    """Whether the lock could be had; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _owner(descriptor: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _who(owner: dict[str, Any]) -> str:
    if not owner:
        return "another process"
    return f"process {owner.get('pid')} on {owner.get('host')} (since {owner.get('since')})"


def _is_alive(owner: dict[str, Any], path: Path, *, has_flock: bool) -> bool:
    """Whether the process that a lock names still runs, as far as can be seen from here."""
    if owner.get("host") == socket.gethostname():
        return not has_flock and _runs(int(owner.get("pid", 0)))
    return _now(path.parent) - path.stat().st_mtime < SILENCE


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _now(directory: Path) -> float:
    """The time of the file system, which need not be that of this machine."""
    probe = directory / f"{NAME}.{os.getpid()}.{socket.gethostname()}"
    probe.touch()
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _beat(path: Path, ended: threading.Event) -> None:
    while not ended.wait(HEARTBEAT):
        with suppress(OSError):
            os.utime(path)
