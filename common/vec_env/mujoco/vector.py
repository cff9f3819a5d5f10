"""The native MuJoCo backend: Gymnasium's MuJoCo tasks on C++ threads.

All simulations advance in one call, and their observations, rewards and terminations are computed together. What the
agent observes is exactly what Gymnasium's own environments give, rounded to float32: physics, initial states for the
same seeds, rewards and ends of episodes. When a simulation becomes unstable, MuJoCo resets it to the default state of
its model and the episode continues, as in Gymnasium; the warning goes to the logger of this module.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco.mujoco_env import expand_model_path
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import ResetNeeded
from gymnasium.utils.seeding import np_random
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from mujoco.batch import SimulationError

from common.errors import RunFailedError
from common.random_state import get_random_state, set_random_state
from common.vec_env.door import seed_list
from common.vec_env.mujoco.physics import Simulations, load_model
from common.vec_env.mujoco.specs import find_task
from common.vec_env.mujoco.tasks import Task


def supports(spec: EnvSpec) -> bool:
    """Returns whether a registered environment is a MuJoCo task that is implemented here with all its arguments."""
    return find_task(spec) is not None


class SimulationDivergedError(RunFailedError):
    """MuJoCo refused to step a simulation, or its state or reward is not finite."""


class Observer(Protocol):
    """Computes what an agent observes of the simulations of a `NativeMujocoVectorEnv`.

    Attributes:
      space: observation space of one environment.
    """

    space: spaces.Box[Any]

    def reset(self, rows: np.ndarray) -> np.ndarray:
        """Returns the first observations `[M, ...]` of new episodes; `rows` is int `[M]`, ascending."""

    def observe(self) -> np.ndarray:
        """Returns all observations `[N, ...]` after a step, before any episode is reset, in a new array."""

    def render(self) -> tuple[np.ndarray, ...] | None:
        """Returns one frame uint8 `[H, W, 3]` per simulation, or None if nothing is rendered."""

    def close(self) -> None:
        """Frees all resources. It may be called twice."""


class _StateObserver:
    """Returns the observations that the task itself defines."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self.space: spaces.Box[Any] = spaces.Box(-np.inf, np.inf, self.observe().shape[1:], np.float32)

    def reset(self, rows: np.ndarray) -> np.ndarray:
        return self.observe()[rows]

    def observe(self) -> np.ndarray:
        return self._task.observations()

    def render(self) -> None:
        return None

    def close(self) -> None:
        pass


class NativeMujocoVectorEnv(VectorEnv):
    """A vector environment of `num_envs` simulations of one MuJoCo task, with the contract of `common.vec_env`.

    Attributes:
      model: MuJoCo's compiled model.
      qpos: float64 `[N, nq]`, current positions. The array is updated by every step.
      qvel: float64 `[N, nv]`, current velocities. The array is updated by every step.
    """

    spec: EnvSpec
    single_action_space: spaces.Box[Any]
    state_gap = ""

    def __init__(
        self,
        spec: EnvSpec,
        num_envs: int,
        *,
        num_threads: int = 0,
        observer: Callable[[NativeMujocoVectorEnv], Observer] | None = None,
    ) -> None:
        """Compiles the model and starts the threads.

        Args:
          spec: specification of a registered environment that `supports` accepts. num_envs: number of simulations.
          num_threads: number of threads that step them; 0 for as many as there are cores. observer: function that
          takes this environment and returns its observer. None gives the observations of the task.
            Rewards and terminations are always those of the task.
        """
        found = find_task(spec)
        if found is None:
            raise ValueError(f"spec: {spec.id} is not a MuJoCo task that is implemented natively")

        kind, version, options = found
        self.spec = spec
        self.num_envs = num_envs

        self.model = load_model(expand_model_path(options["xml_file"]))
        fps = round(1 / (self.model.opt.timestep * options["frame_skip"]))
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP, "render_fps": fps}

        contact_forces = options.get("use_contact_forces", kind.contact_forces)
        self._sims = Simulations(self.model, num_envs, options["frame_skip"], num_threads, contact_forces)
        self.qpos = self._sims.qpos
        self.qvel = self._sims.qvel
        self._task = kind(self._sims, options, version)
        self._observer: Observer = observer(self) if observer else _StateObserver(self._task)

        low, high = self.model.actuator_ctrlrange.astype(np.float32).T  # [nu] each
        self.single_action_space = spaces.Box(low, high, dtype=np.float32)
        self.single_observation_space = self._observer.space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

        self._max_steps = spec.max_episode_steps or np.iinfo(int).max
        self._rngs: list[np.random.Generator] = []
        self._seen = np.empty(0)  # [N, ...] after the first reset, the last observations
        self._lengths = np.zeros(num_envs, int)  # [N], steps of the current episodes
        self._returns = np.zeros(num_envs)  # [N], sums of their rewards
        self._starts = np.zeros(num_envs)  # [N], when they started

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts a new episode everywhere, or only where `options["reset_mask"]` (bool `[N]`) is true.

        Args:
          seed: seed of simulation 0, from which those of the others count on; or a list with a seed, or None, for each.
          options: only the mask is used.
        """
        mask = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        new = not self._rngs
        if new:
            self._rngs = [np_random(None)[0] for _ in range(self.num_envs)]

        for i, one in enumerate(seed_list(seed, self.num_envs)):
            if mask[i] and one is not None:
                self._rngs[i] = np_random(one)[0]

        rows = np.flatnonzero(mask)  # [M]
        observations = self._start_episodes(rows)  # [M, ...]

        if len(rows) < self.num_envs:
            seen = self._seen.copy()  # [N, ...]
            seen[rows] = observations
            observations = seen

        self._seen = observations
        return observations, {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Takes one step in every environment, and resets those whose episode ended.

        Args:
          actions: `[N, nu]`. MuJoCo clips them to the action space.

        Returns:
          Observations `[N, ...]`, rewards float32 `[N]`, terminations bool `[N]`, truncations bool `[N]` and infos,
          as the contract of `common.vec_env` describes them.

        Raises:
          ValueError: an action is not finite. The message names the index of the environment.
          SimulationDivergedError: a simulation diverged. The message names the environment and the step of its episode.
        """
        if not self._rngs:
            raise ResetNeeded("Call reset() before step().")

        actions = self._checked(actions)
        self._sims.ctrl[:] = actions
        self._lengths += 1

        try:
            self._sims.step()
        except SimulationError as error:
            raise self._diverged(error.ids[0], str(error)) from error

        rewards, terminations = self._task.outcomes(actions)  # [N] each
        self._check_finite(rewards)
        self._returns += rewards
        truncations = self._lengths >= self._max_steps  # [N]
        observations = self._observer.observe()  # [N, ...]

        ended = terminations | truncations
        infos = self._finish(ended, observations) if ended.any() else {}
        self._seen = observations

        return observations, rewards.astype(np.float32), terminations, truncations, infos

    def get_state(self) -> dict[str, np.ndarray]:
        """Returns copies of the arrays that `set_state` continues from. The last observations are not among them."""
        return {
            "simulations": self._sims.state.copy(),
            "memory": self._task.memory.copy(),
            "lengths": self._lengths.copy(),
            "returns": self._returns.copy(),
            "seconds": time.perf_counter() - self._starts,
            "random": np.stack([get_random_state(rng) for rng in self._rngs]),
        }

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Continues, without a reset, from the state of an environment of the same task and size."""
        self._sims.state[:] = state["simulations"]
        self._task.memory[:] = state["memory"]
        self._lengths[:] = state["lengths"]
        self._returns[:] = state["returns"]
        self._starts = time.perf_counter() - state["seconds"]

        self._rngs = [np.random.default_rng() for _ in range(self.num_envs)]
        for rng, each in zip(self._rngs, state["random"], strict=True):
            set_random_state(rng, each)

        self._seen = self._observer.reset(np.arange(self.num_envs))  # a PixelObserver renders the last frame again

    def render(self) -> tuple[np.ndarray, ...]:
        """Returns the frames that an agent which learns from pixels observes, uint8 `[H, W, 3]` for each simulation.

        Raises:
          NotImplementedError: the agent does not learn from pixels.
        """
        frames = self._observer.render()
        if frames is not None:
            return frames

        raise NotImplementedError(
            "The native MuJoCo backend cannot render: give a render_mode, which chooses another backend."
        )

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the observer."""
        self._observer.close()

    def _checked(self, actions: np.ndarray) -> np.ndarray:
        actions = np.asarray(actions)
        if actions.shape != self._sims.ctrl.shape:
            raise ValueError(f"actions: expected shape {self._sims.ctrl.shape}, got {actions.shape}")

        finite = np.isfinite(actions)
        if not finite.all():
            i = np.flatnonzero(~finite.all(1))[0]
            raise ValueError(f"actions: environment {i} got {actions[i].tolist()}, allowed are finite numbers")

        return actions

    def _check_finite(self, rewards: np.ndarray) -> None:
        if not math.isfinite(self._sims.state.sum() + rewards.sum()):
            wrong = ~(np.isfinite(self._sims.state).all(1) & np.isfinite(rewards))
            raise self._diverged(np.flatnonzero(wrong)[0], "its state or reward is not finite")

    def _diverged(self, i: int, reason: str) -> SimulationDivergedError:
        return SimulationDivergedError(f"environment {i} diverged in step {self._lengths[i]} of its episode: {reason}")

    def _finish(self, ended: np.ndarray, observations: np.ndarray) -> dict[str, Any]:
        """Resets the environments whose episode ended, and returns the infos.

        Args:
          ended: bool `[N]`.
          observations: `[N, ...]`. The first observations of the new episodes are written into it.
        """
        seconds = time.perf_counter() - self._starts
        statistics = {"r": self._returns, "l": self._lengths, "t": seconds}
        episode = {key: np.where(ended, values, 0) for key, values in statistics.items()}
        rows = ended.nonzero()[0]  # [M]
        final_obs = np.full(self.num_envs, None, object)  # [N]
        for i in rows:
            final_obs[i] = observations[i].copy()

        observations[rows] = self._start_episodes(rows)

        return {
            "final_obs": final_obs,
            "_final_obs": ended,
            "final_info": {"episode": episode, "_episode": ended},
            "_final_info": ended,
            "episode": episode,
            "_episode": ended,
        }

    def _start_episodes(self, rows: np.ndarray) -> np.ndarray:
        """Draws initial states for the simulations `rows`, and returns their first observations `[M, ...]`."""
        self._sims.restart(rows, [self._task.initial_state(self._rngs[i]) for i in rows])
        self._task.remember(rows)
        self._lengths[rows] = 0
        self._returns[rows] = 0
        self._starts[rows] = time.perf_counter()
        return self._observer.reset(rows)
