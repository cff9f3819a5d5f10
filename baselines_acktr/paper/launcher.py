"""Trains several runs at a time: starts those that are missing, and resumes those that were interrupted."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from baselines_acktr.paper.display import Display
from baselines_acktr.paper.job import FINISHED, Job, state_of
from baselines_acktr.paper.plan import Run
from common.errors import UserError
from common.process import Interruption

_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 10.0  # until runs that should end at once are killed


def unfinished(runs: Sequence[Run], folder: Path) -> list[Run]:
    """Returns the runs that are not finished in their folders below `folder`, without duplicates.

    Raises:
      UserError: as for `state_of`.
    """
    by_name = {run.name: run for run in runs}
    return [run for run in by_name.values() if state_of(run, folder / run.name) != FINISHED]


def core_shares(jobs: int) -> list[list[int]]:
    """Divides the available cores among `jobs` runs. Every run gets at least one core."""
    cores = sorted(os.sched_getaffinity(0))
    return [cores[i::jobs] or [cores[i % len(cores)]] for i in range(jobs)]


class Launcher:
    """Keeps up to `jobs` runs active.

    Attributes:
      failures: one line for each run that failed.

    Args:
      runs: runs to train.
      folder: folder that contains the folders of the runs.
      jobs: largest number of active runs.
      display: shows the progress.
    """

    def __init__(self, runs: Sequence[Run], folder: Path, jobs: int, display: Display) -> None:
        self.failures: list[str] = []
        self._queue = deque(runs)
        self._folder = folder
        self._display = display
        self._free = core_shares(min(jobs, len(runs)))
        self._jobs: dict[Job, list[int]] = {}

    def run(self) -> None:
        """Trains all runs, and returns when they have ended.

        Raises:
          KeyboardInterrupt: Ctrl-C or SIGTERM was received. The runs have been saved and have ended.
        """
        stopping = False
        with self._display, Interruption(deferred=True) as interruption:
            try:
                while self._jobs or (self._queue and not stopping):
                    if interruption.signal and not stopping:
                        stopping = True
                        for job in self._jobs:
                            job.stop()

                    self._collect(stopping)
                    if not stopping:
                        self._start()

                    self._display.update(list(self._jobs), len(self._queue))
                    time.sleep(_POLL_SECONDS)
            finally:
                for job in self._jobs:
                    job.kill(_PATIENCE_SECONDS)

        if stopping:
            raise KeyboardInterrupt

    def _start(self) -> None:
        """Starts runs while cores are free."""
        while self._free and self._queue:
            run = self._queue.popleft()
            try:
                job = Job(run, self._folder / run.name, self._free[0])
            except UserError as error:
                self._fail(run, str(error))
                continue

            self._jobs[job] = self._free.pop(0)
            self._display.note(f"started   {run.name}")

    def _collect(self, stopping: bool) -> None:
        """Handles the runs that have ended."""
        for job in [job for job in self._jobs if job.ended]:
            self._free.append(self._jobs.pop(job))
            self._display.ended(job)
            problem = job.close()

            try:
                if problem is None and state_of(job.run, job.folder) != FINISHED:
                    problem = "ended before its last timestep"
            except UserError as error:
                problem = str(error)

            if problem is None:
                self._display.note(f"finished  {job.run.name}")
            elif stopping:
                self._display.note(f"stopped   {job.run.name}")
            else:
                self._fail(job.run, problem)

    def _fail(self, run: Run, problem: str) -> None:
        self.failures.append(f"failed    {run.name}: {problem}")
        self._display.note(self.failures[-1])
