"""Writes the numbers of a run: table on the terminal, log.txt, progress.csv, progress.json, TensorBoard and others.

Folder and formats come from the arguments or from the environment variables OPENAI_LOGDIR, OPENAI_LOG_FORMAT and
OPENAI_LOG_FORMAT_MPI (ranks above 0). Files that exist are continued, never truncated.
"""

from __future__ import annotations

import abc
import contextlib
import csv
import datetime
import io
import json
import logging
import math
import numbers
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

import rich.box
import rich.console
import rich.table
import rich.text
from tqdm import tqdm

from common.appended_file import AppendedFile, require_regular
from common.atomic_file import write_text
from common.errors import UserError, closest
from common.tensorboard_output import EventFile, tag
from common.wandb_output import Tracker, require_wandb

FORMATS = ("stdout", "log", "csv", "json", "tensorboard", "wandb")
Row = Mapping[str, float | int | str]
_BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"  # without tqdm's own speed
_log = logging.getLogger(__name__)


class Output(abc.ABC):
    """One destination of the rows of a run."""

    @abc.abstractmethod
    def write(self, row: Row, step: int) -> None:
        """Writes {key: number or text} of one report; `step` counts timesteps."""

    def position(self) -> int:
        """How much there is, for `cut`."""
        return 0

    def cut(self, position: int) -> None:  # noqa: B027 (what is on a terminal stays)
        """Drops what was written after `position` was taken, in whichever process."""

    @abc.abstractmethod
    def close(self) -> None:
        """Releases what the output holds."""


class TableOutput(Output):
    """A table with sorted keys, on the terminal."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        plain = not stream.isatty()
        self._box = rich.box.ASCII if plain else rich.box.ROUNDED
        self._console = rich.console.Console(file=stream, width=100 if plain else None, highlight=False)

    def write(self, row: Row, step: int) -> None:
        table = rich.table.Table(box=self._box, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True, max_width=30)
        for key in sorted(key for key in row if not _is_idle(key, row[key])):
            table.add_row(rich.text.Text(key), rich.text.Text(readable(row[key])))
        with tqdm.external_write_mode(file=self._stream):
            self._console.print(table)
        self._stream.flush()

    def close(self) -> None:
        """Nothing: the terminal is not its own."""


def _is_idle(key: str, value: float | int | str) -> bool:
    """Whether a key counts what was skipped, and nothing was."""
    return "skipped_" in key and value == 0


class TextOutput(TableOutput):
    """The same tables in a file."""

    def __init__(self, path: Path) -> None:
        self._file = AppendedFile(path)
        super().__init__(cast(TextIO, self._file))

    def position(self) -> int:
        return self._file.size

    def cut(self, position: int) -> None:
        self._file.cut(position)

    def close(self) -> None:
        self._file.close()


class CsvOutput(Output):
    """One line per report; when new keys appear the file is rewritten with more columns, earlier rows padded."""

    def __init__(self, path: Path) -> None:
        self._path = path
        _drop_partial_line(path)
        self._columns, rows = self._read()
        self._rows = len(rows)

    def write(self, row: Row, step: int) -> None:
        new = [key for key in sorted(row) if key not in self._columns]
        if new:
            self._rewrite([*self._columns, *new], self._read()[1])
        line = io.StringIO(newline="")
        csv.DictWriter(line, self._columns).writerow(dict(row))
        with contextlib.closing(AppendedFile(self._path)) as file:
            file.write(line.getvalue())
        self._rows += 1

    def position(self) -> int:
        return self._rows

    def cut(self, position: int) -> None:
        if position < self._rows:
            self._rewrite(self._columns, self._read()[1][:position])
            self._rows = position

    def close(self) -> None:
        """Nothing: the file is open only while a line is written."""

    def _read(self) -> tuple[list[str], list[dict[str, str]]]:
        if not self._path.exists():
            return [], []
        with self._path.open(newline="", errors="replace") as file:
            reader = csv.DictReader(file)
            columns = list(reader.fieldnames or ())  # read now, from an empty file, too
            rows = [{key: value for key, value in row.items() if key is not None} for row in reader]
        return columns, rows  # without what has no column, as a header that was cut off leaves it

    def _rewrite(self, columns: list[str], rows: list[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self._path, text.getvalue())
        self._columns = columns


class JsonOutput(Output):
    """One JSON object per line; numbers that are not finite become null."""

    def __init__(self, path: Path) -> None:
        _drop_partial_line(path)
        self._file = AppendedFile(path)

    def write(self, row: Row, step: int) -> None:
        finite = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in row.items()}
        self._file.write(json.dumps(finite, allow_nan=False, sort_keys=True) + "\n")

    def position(self) -> int:
        return self._file.size

    def cut(self, position: int) -> None:
        self._file.cut(position)

    def close(self) -> None:
        self._file.close()


class ScalarOutput(Output):
    """The numbers of each report by timestep, in groups, for a program that draws them; text is left out.

    Args:
      target: takes {tag: number}.
    """

    def __init__(self, target: EventFile | Tracker) -> None:
        self._target = target

    def write(self, row: Row, step: int) -> None:
        self._target.add({tag(key): float(value) for key, value in row.items() if not isinstance(value, str)}, step)

    def close(self) -> None:
        self._target.close()


class TensorBoardOutput(ScalarOutput):
    """Scalars for TensorBoard. Writing them does not need TensorBoard itself."""

    def __init__(self, folder: Path) -> None:
        self._file = EventFile(folder)
        self._step = 0
        super().__init__(self._file)

    def write(self, row: Row, step: int) -> None:
        super().write(row, step)
        self._step = step

    def position(self) -> int:
        return self._step

    def cut(self, position: int) -> None:
        if position:
            self._file.restart(position + 1)
            self._step = position


class Logger:
    """Collects values and writes them to every output.

    Args:
      folder: where the files go; it is created.
      formats: some of `FORMATS`; None: those of `default_formats`, to which a list that starts with `+` adds its own.
      rank: number of this process among those that train together; above 0 the files' names carry it.

    Raises:
      UserError: an unknown format, or a folder that cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], formats: Sequence[str] | None = None, rank: int = 0) -> None:
        formats = default_formats(rank) if formats is None else whole_formats(formats, default_formats(rank))
        check_formats(formats)
        self.folder = Path(folder).expanduser()
        self.rank = rank
        self._row: dict[str, float | int | str] = {}
        self._gaps: set[str] = set()
        self._bar: tqdm[Any] | None = None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            suffix = f"-rank{rank:03d}" if rank else ""
            self._outputs = {name: _open_output(name, self.folder, suffix) for name in formats}
        except OSError as error:
            where = f" ({error.filename})" if error.filename not in (None, str(folder)) else ""
            raise UserError(f"log folder {folder}: cannot be written: {error.strerror}{where}") from error
        except csv.Error as error:
            raise UserError(f"log folder {folder}: its progress.csv is no such file: {error}; move it away") from error

    def log(self, values: Mapping[str, Any]) -> None:
        """Adds {key: number, NumPy or TensorFlow scalar, or text} to the next report."""
        self._row.update({key: _plain(value) for key, value in values.items()})

    @property
    def pending(self) -> bool:
        """Whether something was logged since the last dump."""
        return bool(self._row)

    def dump(self, step: int) -> None:
        """Writes what was logged since the last dump; `step` is the number of timesteps so far.

        A disk that is full costs the row, not the run: each format says once that it has gaps.
        """
        for name, output in self._outputs.items():
            try:
                output.write(self._row, step)
            except OSError as error:
                if name not in self._gaps:
                    _log.warning("log format %s: rows are missing from here on: %s", name, error.strerror)
                self._gaps.add(name)
        self._row = {}

    def positions(self) -> dict[str, int]:
        """Returns {format: how much is written}, for `cut`."""
        return {name: output.position() for name, output in self._outputs.items()}

    def cut(self, positions: Mapping[str, int]) -> None:
        """Drops what was written after `positions` was taken, in whichever process."""
        for name, output in self._outputs.items():
            if name in positions:
                output.cut(positions[name])

    def progress(self, step: int, total: int, **values: float) -> None:
        """Moves the progress bar to `step` of `total` timesteps, with `values` beside it (terminal, rank 0 only)."""
        if self._bar is None:
            off = self.rank > 0 or not sys.stderr.isatty()
            self._bar = tqdm(total=total, initial=step, disable=off, dynamic_ncols=True, leave=True, bar_format=_BAR)
        self._bar.set_postfix({key: readable(value) for key, value in values.items()}, refresh=False)
        self._bar.update(step - self._bar.n)

    def close(self) -> None:
        """Ends the progress bar and closes the files; may be called twice."""
        if self._bar is not None:
            self._bar.close()
        for output in self._outputs.values():
            output.close()
        self._outputs = {}

    def __enter__(self) -> Logger:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


def default_folder() -> Path:
    """Returns the folder of OPENAI_LOGDIR, else a new name <temporary folder>/openai-<time>."""
    typed = os.environ.get("OPENAI_LOGDIR")
    stamp = datetime.datetime.now().strftime("openai-%Y-%m-%d-%H-%M-%S-%f")
    return Path(os.path.expanduser(typed)) if typed else Path(tempfile.gettempdir()) / stamp


def default_formats(rank: int = 0) -> tuple[str, ...]:
    """Returns the formats of OPENAI_LOG_FORMAT, else the usual ones; above rank 0 OPENAI_LOG_FORMAT_MPI, else none."""
    variable, usual = ("OPENAI_LOG_FORMAT_MPI", "") if rank else ("OPENAI_LOG_FORMAT", "stdout,log,csv")
    return whole_formats(_names(os.environ.get(variable, usual)), _names(usual))


def whole_formats(formats: Sequence[str], usual: Sequence[str]) -> tuple[str, ...]:
    """Returns a list of formats; one that starts with `+`, as in `+tensorboard`, has the usual ones in front."""
    if not (formats and formats[0].startswith("+")):
        return tuple(formats)
    added = [name.removeprefix("+") for name in formats]
    return tuple(dict.fromkeys([*usual, *added]))


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def check_formats(formats: Sequence[str], argument: str = "formats") -> None:
    """Raises `UserError` for a name that is not in `FORMATS`; `argument` is where it comes from."""
    for name in formats:
        if name == "wandb":
            require_wandb(argument)
        if name not in FORMATS:
            raise UserError(f"{argument}={name}: must be of {', '.join(FORMATS)}.{closest(name, FORMATS)}")


def readable(value: float | int | str) -> str:
    """Returns a number in at most four figures, a whole number with thousands separators, text as it is."""
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


def _open_output(name: str, folder: Path, suffix: str) -> Output:
    match name:
        case "stdout":
            return TableOutput(sys.stdout)
        case "log":
            return TextOutput(folder / f"log{suffix}.txt")
        case "csv":
            return CsvOutput(folder / f"progress{suffix}.csv")
        case "json":
            return JsonOutput(folder / f"progress{suffix}.json")
        case "wandb":
            return ScalarOutput(Tracker(folder))
        case _:
            return TensorBoardOutput(folder / f"tb{suffix}")


def _plain(value: Any) -> float | int | str:
    if hasattr(value, "numpy"):
        value = value.numpy()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def _drop_partial_line(path: Path) -> None:
    """Cuts off a last line without its end, left by a process that was killed while writing."""
    require_regular(path)
    with contextlib.suppress(FileNotFoundError), path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)
