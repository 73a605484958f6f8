"""A worker process as an object."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.compare.environments import VARIABLES

WORKER = Path(__file__).parent / "engines" / "worker.py"
MALLOC = {
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_TOP_PAD_": "67108864",
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
}
"""Keep freed memory: without these, glibc gives large arrays back to the system and takes them again in every step."""


class EngineError(Exception):
    """What an engine says when it cannot do a piece of work."""


class EngineProcess:
    """An engine in a process of its own, with a fixed number of threads.

    Args:
        engine: mace_torch, symmetrix or macekit.
        python: Interpreter that has the engine.
        threads: Threads of torch, OpenMP and MKL.
        tuned_malloc: Whether to set `MALLOC`.
        log: File for what the engine prints.
    """

    def __init__(self, engine: str, python: Path, threads: int, tuned_malloc: bool, log: Path) -> None:
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        variables = os.environ | VARIABLES | dict.fromkeys(names, str(threads)) | (MALLOC if tuned_malloc else {})
        self.engine = engine
        with log.open("a") as file:
            self._process = subprocess.Popen(
                [str(python), str(WORKER), engine],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                env=variables,
            )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a request and wait for the answer.

        Raises:
            EngineError: If the engine fails or its process ends.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        if not line:
            raise EngineError(f"{self.engine}: the process ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise EngineError(f"{self.engine}: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
