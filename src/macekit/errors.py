"""Every error that macekit raises on purpose, with the exit code that the command line gives it.

A message says, in one line, what was given, what was expected, where, and how to fix it. An optional hint
follows on a line of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MacekitError(Exception):
    """Base of all deliberate errors.

    Args:
        message: What was given, what was expected, and where, in one line.
        hint: What to do about it, shown on a second line.
    """

    exit_code: int = 2

    def __init__(self, message: str, hint: str | None = None) -> None:
        self.message = message
        self.hint = hint
        super().__init__(message if hint is None else f"{message}\nhint: {hint}")


class ConfigError(MacekitError, ValueError):
    """A configuration that cannot be used: unknown key, wrong type, contradiction."""

    exit_code = 2


class UsageError(MacekitError, ValueError):
    """A call or a command line that cannot be carried out as written."""

    exit_code = 2


class BackendUnavailable(MacekitError, RuntimeError):
    """A kernel backend was asked for by name and cannot serve."""

    exit_code = 2


class DataError(MacekitError, ValueError):
    """A data file or a structure that cannot be used."""

    exit_code = 3


class NonFiniteError(MacekitError, ArithmeticError):
    """A loss or a prediction became NaN or infinite."""

    exit_code = 3


class ModelFileError(MacekitError, ValueError):
    """A model directory or file that cannot be read or written."""

    exit_code = 4


class ResumeError(MacekitError, ValueError):
    """A run that cannot be continued from the checkpoint found."""

    exit_code = 5


class RunStopped(MacekitError, RuntimeError):
    """A run that was asked to stop by SIGTERM or SIGUSR1, and has saved where it was."""

    exit_code = 143


def did_you_mean(word: str, options: Iterable[str]) -> str | None:
    """The hint for a misspelt word: its nearest option, or None where nothing is near."""
    near = difflib.get_close_matches(word, list(options), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else None
