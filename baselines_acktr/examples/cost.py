"""Compares what an update of K-FAC, Adam and Muon costs in Keras: `python -m baselines_acktr.examples.cost`.

All three train the same network on noise, in turns. The time is that of the processor, summed over its threads, so it
does not depend on what else the machine does.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import keras
import numpy as np

from baselines_acktr.examples.sequences import text
from baselines_acktr.kfac import InlineInverter, Kfac, KfacModel
from common import cli
from common.errors import UserError, exit_code
from common.options import one_of, option, validate

PROGRAM = "python -m baselines_acktr.examples.cost"
ROWS, CLASSES = 256, 10
WIDTHS = 64, 128, 256, 512, 1024, 2048
WARM_UP = 2  # updates that trace graphs
ROW = "{:14s}" + 4 * " {:>10s}"
HEADING = ROW.format("network", "K-FAC", "+ inverses", "Adam", "Muon")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Task(NamedTuple):
    """A network, and a batch of inputs and labels that it is trained on."""

    model: keras.Model
    inputs: np.ndarray
    labels: np.ndarray


class Costs(NamedTuple):
    """Processor milliseconds of an update, medians.

    Attributes:
      kfac: of K-FAC, without new inverses.
      inverses: of new inverses of all layers, which a thread computes in the background every few updates.
      adam, muon: of the others.
    """

    kfac: float
    inverses: float
    adam: float
    muon: float


def _noise(model: keras.Model) -> Task:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(ROWS, *model.input_shape[1:])).astype(np.float32)
    return Task(model, inputs, rng.integers(0, CLASSES, ROWS))


def _dense(width: int) -> Task:
    """Two hidden layers of this width, on as many inputs."""
    layers = [keras.Input((width,)), *(keras.layers.Dense(width, "relu") for _ in range(2))]
    return _noise(keras.Sequential([*layers, keras.layers.Dense(CLASSES)]))


def _convolutional() -> Task:
    """Two convolutions of stride 2 with normalization, then 128 units, on pictures of 28x28."""
    images = hidden = keras.Input((28, 28, 1))
    for filters in (32, 64):
        hidden = keras.layers.Conv2D(filters, 3, strides=2)(hidden)
        hidden = keras.layers.ReLU()(keras.layers.BatchNormalization()(hidden))

    hidden = keras.layers.Dense(128, "relu")(keras.layers.Flatten()(hidden))
    return _noise(keras.Model(images, keras.layers.Dense(CLASSES)(hidden)))


def _transformer() -> Task:
    """The transformer of the problem "text", on 256 pieces of 16 letters."""
    problem = text()
    return Task(problem.make_model(0), problem.inputs[:ROWS], problem.targets[:ROWS])


NETWORKS: dict[str, Callable[[], Task]] = {
    **{str(width): lambda width=width: _dense(width) for width in WIDTHS},  # type: ignore[misc]
    "convolutions": _convolutional,
    "transformer": _transformer,
}


def measure(task: Task, updates: int) -> Costs:
    """Trains copies of a network with each optimizer, in turns, and returns the costs of their updates.

    Args:
      task: the network with its batch.
      updates: how many of each optimizer are measured, after WARM_UP.
    """
    ours = KfacModel(keras.models.clone_model(task.model))
    optimizer = Kfac(ours, inverter=InlineInverter())
    ours.compile(optimizer, LOSS)
    inverses = _timed_refreshes(optimizer)

    models = [ours]
    for other in (keras.optimizers.Adam(), keras.optimizers.Muon(exclude_layers=[task.model.layers[-1].name])):
        model = keras.models.clone_model(task.model)
        model.compile(other, LOSS)
        models.append(model)

    durations = [[_duration(task, model) for model in models] for _ in range(WARM_UP + updates)]
    kfac, adam, muon = np.median(durations[WARM_UP:], axis=0)
    of_inverses = float(np.median(inverses[WARM_UP:]))
    return Costs(*(1e3 * seconds for seconds in (float(kfac) - of_inverses, of_inverses, float(adam), float(muon))))


def _duration(task: Task, model: keras.Model) -> float:
    start = time.process_time()
    model.train_on_batch(task.inputs, task.labels)
    return time.process_time() - start


def _timed_refreshes(optimizer: Kfac) -> list[float]:
    """A list that each refresh of the inverses appends its processor seconds to; early ones are in every update."""
    seconds: list[float] = []
    refresh = optimizer.refresh_inverses

    def timed() -> None:
        start = time.process_time()
        refresh()
        seconds.append(time.process_time() - start)

    optimizer.refresh_inverses = timed  # type: ignore[method-assign]
    return seconds


def row(name: str, costs: Costs) -> str:
    """Formats a row of the table."""
    return ROW.format(name, *(f"{number:.1f}" for number in costs))


@dataclasses.dataclass(frozen=True)
class CostOptions:
    """Flags of `python -m baselines_acktr.examples.cost`."""

    networks: tuple[str, ...] = option(tuple(NETWORKS), "networks to measure; a number is a width")
    updates: int = option(7, "updates of each optimizer that are measured", minimum=1)

    def __post_init__(self) -> None:
        validate(self)
        for name in self.networks:
            if name not in NETWORKS:
                raise UserError(f"--networks={name}: must be {one_of(tuple(NETWORKS))}")


FLAGS = cli.Flags({"options": CostOptions})


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line and returns its exit code: 0, or 2 for a mistake of the user."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if cli.asks_for_help(argv):
        print(FLAGS.help(PROGRAM, "[--flag=value ...]", "Processor milliseconds of an update of each optimizer."))
        return 0
    return exit_code("cost", lambda: _print_table(CostOptions(**FLAGS.parse(argv))))


def _print_table(options: CostOptions) -> None:
    print(f"processor milliseconds for an update of {ROWS} rows\n{HEADING}")
    for name in options.networks:
        print(row(name, measure(NETWORKS[name](), options.updates)), flush=True)


if __name__ == "__main__":
    sys.exit(main())
