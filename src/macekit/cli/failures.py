"""What a command that fails prints and returns: one line, a hint, an exit code, and never a traceback."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from macekit.errors import MacekitError, RunStopped

UNEXPECTED = 1
"""Exit code of an error that macekit did not foresee."""
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells expect it."""


@contextmanager
def reported_failures(log_directory: Path | None = None) -> Iterator[None]:
    """Turn what goes wrong inside into a message on stderr and an exit code.

    Args:
        log_directory: Where the traceback of an unexpected error goes; the current directory where this is
            not given or does not exist.

    Raises:
        SystemExit: With the exit code of the error's class, 130 after Ctrl-C, 1 for anything unforeseen.
    """
    try:
        yield
    except MacekitError as error:
        word = "" if isinstance(error, RunStopped) else "error: "
        _print(f"{word}{error.message}", f"hint: {error.hint}" if error.hint else None)
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        _print("interrupted")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        raise
    except Exception as error:
        _print(f"error: unexpected {type(error).__name__}: {_first_line(error)}", _log(log_directory))
        raise SystemExit(UNEXPECTED) from None


def _print(*lines: str | None) -> None:
    for line in lines:
        if line is not None:
            print(line, file=sys.stderr, flush=True)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or "no message").splitlines()[0]


def _log(directory: Path | None) -> str:
    """Write the traceback of the error being handled to a file; returns the hint that names it."""
    rank = os.environ.get("RANK", "0")
    name = "error.log" if rank == "0" else f"error-rank{rank}.log"
    path = (directory if directory is not None and directory.is_dir() else Path.cwd()) / name
    try:
        path.write_text(traceback.format_exc(), encoding="utf-8")
    except OSError as error:
        return f"{traceback.format_exc()}hint: {path} could not be written ({error.strerror})"
    return f"hint: the traceback is in {path}; please report it"
