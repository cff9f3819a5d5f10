"""Progress of the runs on the terminal: one line for each active run, and one for the queue."""

from __future__ import annotations

import csv
import time
from collections.abc import Sequence
from pathlib import Path

import rich.console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from baselines_acktr.paper.job import Job
from common.logger import readable

_SECONDS = 1.0  # between two updates of the display


class Display:
    """Shows progress bars on a terminal. If the output is not a terminal, it prints only the lines passed to `note`."""

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
        """Prints a permanent line."""
        self._console.print(line, markup=False)

    def update(self, jobs: Sequence[Job], waiting: int) -> None:
        """Shows the progress of the runs. It does nothing if the last call was less than a second ago."""
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

            note = "starting"
            if row:
                note = f"reward {readable(float(row['eprewmean']))}  {row['fps']}/s"
            self._progress.update(task, completed=int(row.get("total_timesteps", 0)), note=note)

    def ended(self, job: Job) -> None:
        """Removes the line of a run."""
        if job.run.name in self._tasks:
            self._progress.remove_task(self._tasks.pop(job.run.name))
        self._progress.advance(self._all)

    def __enter__(self) -> Display:
        self._progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._progress.stop()


def last_report(folder: Path) -> dict[str, str]:
    """Returns the last complete row of a run's progress.csv, or an empty dict if there is none yet."""
    path = folder / "progress.csv"
    if not path.exists():
        return {}

    text = path.read_text(encoding="utf-8")
    rows = list(csv.DictReader(text[: text.rfind("\n") + 1].splitlines()))  # the last line may be incomplete
    return rows[-1] if rows else {}
