"""What a callback is, and several of them as one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from common.arguments import called, misfit
from common.errors import UserError, brief
from common.named_arrays import Arrays, with_prefix, without_prefix

if TYPE_CHECKING:
    from baselines_acktr.agent.agent import Agent
    from baselines_acktr.learning.rollouts import Rollout
    from common.logger import Logger


@dataclasses.dataclass
class Training:
    """What a callback sees of a training.

    Attributes:
      model: is trained; `model.timesteps` and `model.updates` say how far it is.
      env: the vector environment that it is trained on.
      logger: takes the numbers of the run; None where there is none. What a callback gives to `logger.log` is written
        with the other numbers of the same update.
      total_timesteps: where training ends.
      batch: timesteps of one update, of all ranks together.
      episode_rewards, episode_lengths: of the last episodes of this rank, 100 of all ranks together.
      rollout: what the last update has learned from, or the next one will; None before the first.
      metrics: numbers of the last update; empty before the first.
    """

    model: Agent
    env: gym.vector.VectorEnv
    logger: Logger | None
    total_timesteps: int
    batch: int
    episode_rewards: Sequence[float]
    episode_lengths: Sequence[int]
    rollout: Rollout | None = None
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Callback:
    """Does nothing; override what you need.

    With several MPI ranks each rank has callbacks of its own, and they are called at the same times.
    """

    def on_start(self, training: Training) -> None:
        """Called once, before the first rollout of this `learn`, and after a resumed run has been restored."""

    def after_rollout(self, training: Training) -> None:
        """Called when `training.rollout` is collected and nothing has been learned from it yet."""

    def after_update(self, training: Training) -> bool | None:
        """Called after each update; a true result, in any rank, ends the training."""

    def on_end(self, training: Training) -> None:
        """Called after the last update, also if a callback has ended the training, but not if training has failed."""

    def state(self) -> Arrays:
        """What a resumed run needs to go on exactly, by name, copied."""
        return {}

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned."""


Given = Callback | Callable[[Any], bool | None]
METHODS = ("on_start", "after_rollout", "after_update", "on_end")  # that a training calls with itself


class Callbacks(Callback):
    """Several callbacks, called one after another.

    Args:
      given: None, a `Callback`, a function of the model that is called after each update, or several of these.

    Raises:
      UserError: one of them is something else, or cannot be called with what it is given.
    """

    def __init__(self, given: Given | Iterable[Given] | None = None) -> None:
        several = given if isinstance(given, Iterable) else [] if given is None else [given]
        self._callbacks: list[Callback] = []
        for one in several:
            callback = _as_callback(one)
            self._callbacks += callback._callbacks if isinstance(callback, Callbacks) else [callback]

    def on_start(self, training: Training) -> None:
        for callback in self._callbacks:
            callback.on_start(training)

    def after_rollout(self, training: Training) -> None:
        for callback in self._callbacks:
            callback.after_rollout(training)

    def after_update(self, training: Training) -> bool:
        """Calls all of them, also if one wants the training to end; raises UserError where a result is no bool."""
        return any([_wants_end(callback, training) for callback in self._callbacks])

    def on_end(self, training: Training) -> None:
        for callback in self._callbacks:
            callback.on_end(training)

    def state(self) -> Arrays:
        arrays: Arrays = {}
        for name, callback in self._named().items():
            arrays |= with_prefix(name, callback.state())
        return arrays

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned; those that had no state then are left as they are."""
        for name, callback in self._named().items():
            if own := without_prefix(name, arrays):
                callback.set_state(own)

    def _named(self) -> dict[str, Callback]:
        """{name in a state: callback}, where the name has the class and the number among those of its class."""
        named: dict[str, Callback] = {}
        for callback in self._callbacks:
            kind = type(callback).__name__
            number = sum(name.startswith(f"{kind}-") for name in named)
            named[f"{kind}-{number}"] = callback
        return named


class _Function(Callback):
    def __init__(self, function: Callable[[Any], bool | None]) -> None:
        self._function = function

    @property
    def __name__(self) -> str:
        return called(self._function)

    def after_update(self, training: Training) -> bool | None:
        return self._function(training.model)


def _wants_end(callback: Callback, training: Training) -> bool:
    result = callback.after_update(training)
    try:
        return bool(result)
    except (TypeError, ValueError) as error:  # as of an array
        name = getattr(callback, "__name__", type(callback).__name__)
        raise UserError(
            f"callback {name}: returned {brief(result)}; must be True, which ends the training, False or None"
        ) from error


def _as_callback(given: Given) -> Callback:
    if isinstance(given, Callback):
        for name in METHODS:
            if problem := misfit(getattr(given, name), None):
                raise UserError(f"callback: {type(given).__name__}.{name}(training): {problem}")
        return given

    if callable(given) and not isinstance(given, type):
        if problem := misfit(given, None):
            raise UserError(f"callback: {called(given)}(model): {problem}; a callback takes the model alone")
        return _Function(given)

    words = "must be a Callback, a function of the model, or a list of these"
    if not isinstance(given, type) and any(hasattr(given, name) for name in METHODS):
        words += "; its class must derive from baselines_acktr.callbacks.Callback"
    raise UserError(f"callback={brief(given)}: {words}")
