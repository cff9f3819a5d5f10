"""Progress of the runs on the terminal: a line for each that is going, and one for the queue."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path

import rich.console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from baselines_acktr.paper.job import Job
from common.logger import readable

_SECONDS = 1.0  # between two looks at the runs


class Display:
    """Bars on a terminal; elsewhere only the lines of `note`."""

    def __init__(self, total: int) -> None:
        self._console = rich.console.Console(highlight=False, soft_wrap=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._progress = Progress(*columns, console=self._console, disable=not self._console.is_terminal)
        self._all = self._progress.add_task("runs", total=total, note="")
        self._tasks: dict[str, TaskID] = {}
        self._looked = 0.0

    def note(self, line: str) -> None:
        """Writes a line that stays."""
        self._console.print(line, markup=False)

    def update(self, jobs: Sequence[Job], waiting: int) -> None:
        """Shows how far the runs are, at most once a second."""
        if time.monotonic() < self._looked + _SECONDS:
            return
        self._looked = time.monotonic()
        self._progress.update(self._all, note=f"{waiting} waiting")
        for job in jobs:
            row = last_report(job.folder)
            task = self._tasks.get(job.run.name)
            if task is None:
                task = self._tasks[job.run.name] = self._progress.add_task(
                    job.run.name, total=job.run.timesteps, note=""
                )
            note = f"reward {readable(float(row['eprewmean']))}  {row['fps']}/s" if row else "starting"
            self._progress.update(task, completed=int(row.get("total_timesteps", 0)), note=note)

    def ended(self, job: Job) -> None:
        """Takes a run's line away."""
        if job.run.name in self._tasks:
            self._progress.remove_task(self._tasks.pop(job.run.name))
        self._progress.advance(self._all)

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()


def last_report(folder: Path) -> dict[str, str]:
    """The last row of a run's progress.csv; empty where there is none yet."""
    path = folder / "progress.csv"
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))  # the last line may be half written
    return rows[-1] if rows else {}
