"""Signals that ask a run to stop: it stops after the step at hand, with a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final, Self

HANDLED: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""End of the time (SLURM and others), warning of it, Ctrl-C."""


class StopRequests:
    """Notes signals while it is open. The same signal once more does what it would do otherwise.

    Handlers are those of before when it closes. Signals reach the main thread only; elsewhere nothing is noted. A
    signal that is ignored stays ignored, such as Ctrl-C by what a shell script starts in the background.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        """The signal that asked for an end."""
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        """Start noting."""
        if threading.current_thread() is threading.main_thread():
            for number in HANDLED:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        signal.signal(number, self._before[self.received] or signal.SIG_DFL)
