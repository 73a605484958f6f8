"""The directory of a run: names of its files, and the log that goes to the terminal and to `train.log`."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.tree import Tree

from macekit.errors import UsageError
from macekit.training.checkpoints import has_checkpoint, remove_checkpoint


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Names of everything a run writes."""

    path: Path
    """The directory itself."""

    @property
    def resolved(self) -> Path:
        """The full configuration, every default filled in."""
        return self.path / "resolved.yaml"

    @property
    def metrics(self) -> Path:
        """One line of JSON per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def table(self) -> Path:
        """The same as a table."""
        return self.path / "metrics.csv"

    @property
    def provenance(self) -> Path:
        """Versions, machine, command and hash of the data."""
        return self.path / "run.json"

    @property
    def log(self) -> Path:
        """What was printed."""
        return self.path / "train.log"

    @property
    def split(self) -> Path:
        """Which structures are for training and which for validation."""
        return self.path / "split.json"

    @property
    def last(self) -> Path:
        """Checkpoint from which training can go on."""
        return self.path / "checkpoints" / "last"

    @property
    def best(self) -> Path:
        """Weights of the best epoch."""
        return self.path / "checkpoints" / "best"

    @property
    def model(self) -> Path:
        """The finished model."""
        return self.path / "model"

    def stage(self, number: int) -> Path:
        """Directory of a stage before the last, counted from 1."""
        return self.path / f"stage_{number}"

    def stages(self) -> list[RunDirectory]:
        """Directories of the stages before the last that there are, in their order."""
        found = [path for path in self.path.glob("stage_*") if path.is_dir()]
        return [RunDirectory(path) for path in sorted(found, key=lambda path: (len(path.name), path.name))]

    def latest(self) -> RunDirectory | None:
        """Where the last checkpoint is: here, or in the directory of a stage; None: there is none."""
        return next((place for place in (self, *reversed(self.stages())) if has_checkpoint(place.last)), None)

    @property
    def errors(self) -> Path:
        """Table of errors."""
        return self.path / "errors.csv"

    def prepare(self, *, overwrite: bool, resume: bool) -> bool:
        """Make the directory, and refuse to touch the results of another run.

        Returns:
            Whether there is a checkpoint to go on from. A run that ended before its first one starts again.

        Raises:
            UsageError: If it holds a run and neither `overwrite` nor `resume` is set, if there is nothing to
                resume, or if it cannot be written.
        """
        stages = self.stages()
        occupied = [path for path in (self.resolved, self.metrics, self.last, self.model) if path.exists()]
        occupied += [stage.path for stage in stages if stage.last.exists()]
        if resume and not occupied:
            raise UsageError(f"{self.path}: nothing to resume, there is no {self.last.relative_to(self.path)}")
        if occupied and not (overwrite or resume):
            raise UsageError(
                f"run.directory: {self.path} already holds a run ({occupied[0].name}); nothing was changed",
                "give another run.directory, run.overwrite=true to replace it, or --resume to go on with it",
            )
        goes_on = resume and self.latest() is not None
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if occupied and not goes_on:
                self._clear()
                for stage in stages:
                    stage._clear()
            self.log.open("a", encoding="utf-8").close()
        except OSError as error:
            raise UsageError(f"run.directory: {self.path} cannot be written: {error.strerror}") from None
        return goes_on

    def _clear(self) -> None:
        """Remove what a run writes, and nothing else."""
        for path in (
            self.resolved,
            self.metrics,
            self.table,
            self.provenance,
            self.log,
            self.split,
            self.errors,
            *self.path.glob("*.png"),
        ):
            path.unlink(missing_ok=True)
        for checkpoint in (self.last, self.best):
            remove_checkpoint(checkpoint)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Add one line to `metrics.jsonl` and to `metrics.csv`; numbers that do not exist become null, or empty."""
        plain = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()
        }
        is_first = not self.table.exists()
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")
        with self.table.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            if is_first:
                writer.writerow(plain)
            writer.writerow(plain.values())

    def write_provenance(self, values: Mapping[str, Any]) -> None:
        """Write `run.json`; what an earlier start of the same run wrote is kept inside."""
        earlier: list[Any] = []
        if self.provenance.exists():
            before = json.loads(self.provenance.read_text(encoding="utf-8"))
            earlier = [*before.pop("earlier", []), before]
        text = json.dumps({**values, "earlier": earlier}, indent=1)
        self.provenance.write_text(text + "\n", encoding="utf-8")

    def read_metrics(self) -> list[dict[str, Any]]:
        """All epochs so far; without a line at the end that was not written out."""
        if not self.metrics.exists():
            return []
        rows = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def rewind_metrics(self, num_epochs: int) -> list[dict[str, Any]]:
        """Drop the rows of epochs after `num_epochs`, which will be done again; the rows that are left."""
        rows = [row for row in self.read_metrics() if row["epoch"] <= num_epochs]
        table = io.StringIO(newline="")
        writer = csv.writer(table)
        writer.writerows([rows[0], *(row.values() for row in rows)] if rows else [])
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        for path, text in ((self.metrics, lines), (self.table, table.getvalue())):
            partial = path.with_name(path.name + ".partial")
            partial.write_text(text, encoding="utf-8", newline="")
            partial.replace(path)
        if not rows:
            self.table.unlink()
        return rows

    def tree(self) -> Tree:
        """The files of the run, for printing."""
        tree = Tree(str(self.path))
        for path in sorted(self.path.iterdir()):
            branch = tree.add(path.name + ("/" if path.is_dir() else ""))
            if path.is_dir():
                for inner in sorted(path.iterdir()):
                    branch.add(inner.name + ("/" if inner.is_dir() else ""))
        return tree


class Bar(Protocol):
    """What a progress display is told."""

    def __call__(self, loss: float) -> None:
        """One step is done, with this loss."""
        ...


class RunLog:
    """Prints on process 0 only, on the terminal and into `train.log`.

    Args:
        file: The log file, or None.
        console: Where to print; None: standard output.
        is_silent: Whether nothing is printed or written: on all processes but the first.
    """

    def __init__(self, file: Path | None = None, console: Console | None = None, *, is_silent: bool = False) -> None:
        self._file = None if is_silent else file
        self._is_silent = is_silent
        self._console = console or Console(highlight=False, width=None if sys.stdout.isatty() else 120)

    def line(self, text: str = "") -> None:
        """One line of text, as it is."""
        if not self._is_silent:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
            self._append(text + "\n")

    def show(self, renderable: RenderableType) -> None:
        """A table or a tree."""
        if self._is_silent:
            return
        self._console.print(renderable)
        if self._file is not None:
            text = io.StringIO()
            Console(file=text, width=120, color_system=None).print(renderable)
            self._append(text.getvalue())

    def _append(self, text: str) -> None:
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(text)

    @contextmanager
    def progress(self, title: str, num_steps: int) -> Iterator[Bar]:
        """A bar that moves with every step, on a terminal only, and is gone afterwards."""
        if self._is_silent or not (self._console.is_terminal and sys.stdout.isatty()):
            yield lambda loss: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("loss {task.fields[loss]}"),
        )
        with Progress(*columns, console=self._console, transient=True) as progress:
            task = progress.add_task(title, total=num_steps, loss="")
            yield lambda loss: progress.update(task, advance=1, loss=f"{loss:.4g}")
