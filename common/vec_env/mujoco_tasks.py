"""Gymnasium's MuJoCo tasks, versions 4 and 5, computed for all simulations at once.

What an agent observes, its reward, when its episode ends and where the next one starts: each task gives what
Gymnasium's environment of the same id gives, and has its constants from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from common.vec_env.mujoco_physics import Simulations


class Task:
    """One task of `N` simulations.

    Attributes:
      skipped: leading positions that are not observed.
      normal_velocities: velocities start from a normal, not from a uniform distribution.
      contact_forces: the task needs them, unless the option `use_contact_forces` says otherwise.
      memory: `[N]`, what the next reward needs to know of the present state.
    """

    skipped = 0
    normal_velocities = False
    contact_forces = False
    memory: np.ndarray

    def __init__(self, sims: Simulations, options: Mapping[str, Any], version: int) -> None:
        """Prepares the task.

        Args:
          sims: the simulations of its model.
          options: the arguments of Gymnasium's environment, by name.
          version: 4 or 5.
        """
        self._sims = sims
        self._options = options
        self._version = version
        excludes = options.get("exclude_current_positions_from_observation", True)
        self._seen = sims.coordinates[:, self.skipped if excludes else 0 :]
        self._prepare()
        self.memory = self._remembered()

    def observations(self) -> np.ndarray:
        """Returns float32 `[N, D]`, a fresh array."""
        return self._seen.astype(np.float32)

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the rewards (float64 `[N]`) and terminations (bool `[N]`) of a step with `actions` `[N, nu]`."""
        raise NotImplementedError

    def initial_state(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draws the positions `[nq]` and velocities `[nv]` with which an episode starts."""
        model, scale = self._sims.model, self._options["reset_noise_scale"]
        qpos = model.qpos0 + rng.uniform(-scale, scale, model.nq)
        if self.normal_velocities:
            return qpos, scale * rng.standard_normal(model.nv)
        return qpos, rng.uniform(-scale, scale, model.nv)

    def remember(self, rows: np.ndarray) -> None:
        """Takes note of the first states of episodes; `rows` int `[M]`."""
        self.memory[rows] = self._remembered()[rows]

    def _prepare(self) -> None:
        """Binds what the task needs besides the state."""

    def _remembered(self) -> np.ndarray:
        """A fresh array `[N]`."""
        return np.zeros(self._sims.num_envs)

    def _never(self) -> np.ndarray:
        return np.zeros(self._sims.num_envs, bool)


class _Runner(Task):
    """Runs along x for `forward_reward_weight dx/dt - costs`."""

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._forward_rewards() - self._costs(actions), self._never()

    def _forward_rewards(self) -> np.ndarray:
        x = self._remembered()
        velocities = (x - self.memory) / self._sims.dt
        self.memory = x
        return self._options["forward_reward_weight"] * velocities

    def _costs(self, actions: np.ndarray) -> np.ndarray:
        return self._options["ctrl_cost_weight"] * _square_sum(actions)

    def _remembered(self) -> np.ndarray:
        return self._sims.qpos[:, 0].copy()


class HalfCheetah(_Runner):
    skipped = 1
    normal_velocities = True


class Swimmer(_Runner):
    skipped = 2


class _Walker(_Runner):
    """A runner that has to stay healthy; version 4 also rewards it for the step in which it falls."""

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends = self._options["terminate_when_unhealthy"]
        healthy = self._healthy()
        survived = 1.0 if ends and self._version == 4 else healthy
        rewards = self._forward_rewards() + survived * self._options["healthy_reward"]
        return rewards - self._costs(actions), ~healthy if ends else self._never()

    def _healthy(self) -> np.ndarray:
        raise NotImplementedError


class Walker2d(_Walker):
    """Healthy while height and angle are within their ranges; observed velocities are clipped."""

    skipped = 1

    def _prepare(self) -> None:
        self._limits = np.tile([[-np.inf], [np.inf]], self._sims.coordinates.shape[1])
        self._limits[:, 1] = self._options["healthy_z_range"]
        self._limits[:, 2] = self._options["healthy_angle_range"]

    def observations(self) -> np.ndarray:
        observations = super().observations()
        velocities = observations[:, -self._sims.qvel.shape[1] :]
        np.clip(velocities, -10, 10, out=velocities)
        return observations

    def _healthy(self) -> np.ndarray:
        low, high = self._limits
        coordinates = self._sims.coordinates
        return ((low < coordinates) & (coordinates < high)).all(1)


class Hopper(Walker2d):
    """Healthy while the other coordinates, too, are within a range."""

    def _prepare(self) -> None:
        super()._prepare()
        low, high = self._options["healthy_state_range"]
        np.clip(self._limits[:, 2:], low, high, out=self._limits[:, 2:])


class Ant(_Walker):
    """In version 4 contact forces are an option, and those on the world are observed as well."""

    skipped = 2
    normal_velocities = True
    contact_forces = True

    def _prepare(self) -> None:
        self._body = self._sims.model.body(self._options["main_body"]).id
        self._xpos = self._sims.field("xpos")
        self._pays_contacts = self._options.get("use_contact_forces", True)
        self._sees_contacts = self._pays_contacts and self._options["include_cfrc_ext_in_observation"]

    def observations(self) -> np.ndarray:
        if not self._sees_contacts:
            return super().observations()
        return _joined([self._seen, _flat(self._contact_forces(), 1 if self._version == 5 else 0)])

    def _contact_forces(self) -> np.ndarray:
        return np.clip(self._sims.contact_forces, *self._options["contact_force_range"])

    def _costs(self, actions: np.ndarray) -> np.ndarray:
        costs = super()._costs(actions)
        if self._pays_contacts:
            costs = costs + self._options["contact_cost_weight"] * _square_sum(self._contact_forces())
        return costs

    def _healthy(self) -> np.ndarray:
        low, high = self._options["healthy_z_range"]
        height = self._sims.qpos[:, 2]
        return (low <= height) & (height <= high)

    def _remembered(self) -> np.ndarray:
        return self._xpos[:, self._body, 0].copy()


class _BodyObserver(Task):
    """Observes inertia, velocity and forces of its bodies; in version 4 also of the world and of its free joint."""

    skipped = 2
    contact_forces = True

    def _prepare(self) -> None:
        skip_world, skip_free_joint = (1, 6) if self._version == 5 else (0, 0)
        skips = {"cinert": skip_world, "cvel": skip_world, "qfrc_actuator": skip_free_joint, "cfrc_ext": skip_world}
        fields = {name: self._sims.field(name) for name in skips} | {"cfrc_ext": self._sims.contact_forces}
        self._bodies = [
            _flat(fields[name], skip) for name, skip in skips.items() if self._options[f"include_{name}_in_observation"]
        ]

    def observations(self) -> np.ndarray:
        return _joined([self._seen, *self._bodies])

    def _control_costs(self) -> np.ndarray:
        return self._options["ctrl_cost_weight"] * _square_sum(self._sims.ctrl)

    def _contact_costs(self, weight: str, limits: str) -> np.ndarray:
        return np.clip(self._options[weight] * _square_sum(self._sims.contact_forces), *self._options[limits])


class Humanoid(_BodyObserver, _Walker):
    """Runs by its centre of mass; version 4 has no contact costs."""

    def _prepare(self) -> None:
        super()._prepare()
        self._xipos = self._sims.field("xipos")

    def _costs(self, actions: np.ndarray) -> np.ndarray:
        if self._version == 4:
            return self._control_costs()
        return self._control_costs() + self._contact_costs("contact_cost_weight", "contact_cost_range")

    def _healthy(self) -> np.ndarray:
        low, high = self._options["healthy_z_range"]
        height = self._sims.qpos[:, 2]
        return (low < height) & (height < high)

    def _remembered(self) -> np.ndarray:
        masses = self._sims.model.body_mass
        return np.einsum("b,nbj->nj", masses, self._xipos)[:, 0] / masses.sum()


class HumanoidStandup(_BodyObserver):
    """Raises its torso."""

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        up = self._sims.qpos[:, 2] / self._sims.model.opt.timestep
        impacts = self._contact_costs("impact_cost_weight", "impact_cost_range")
        return up - self._control_costs() - impacts + 1, self._never()


class Reacher(Task):
    """Moves its fingertip to the target; version 4 takes the distance before the step."""

    def _prepare(self) -> None:
        self._xpos = self._sims.field("xpos")
        self._fingertip, self._target = (self._sims.model.body(name).id for name in ("fingertip", "target"))

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before, self.memory = self.memory, self._remembered()
        distances = before if self._version == 4 else self.memory
        near = -distances * self._options["reward_dist_weight"]
        return near - _square_sum(actions) * self._options["reward_control_weight"], self._never()

    def initial_state(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        model = self._sims.model
        qpos = rng.uniform(-0.1, 0.1, model.nq) + model.qpos0
        goal = rng.uniform(-0.2, 0.2, 2)
        while np.linalg.norm(goal) >= 0.2:
            goal = rng.uniform(-0.2, 0.2, 2)
        qpos[-2:] = goal
        qvel = rng.uniform(-0.005, 0.005, model.nv)
        qvel[-2:] = 0
        return qpos, qvel

    def observations(self) -> np.ndarray:
        qpos, qvel = self._sims.qpos, self._sims.qvel
        to_target = self._to_target()[:, : 2 if self._version == 5 else 3]
        return _joined([np.cos(qpos[:, :2]), np.sin(qpos[:, :2]), qpos[:, 2:], qvel[:, :2], to_target])

    def _remembered(self) -> np.ndarray:
        return _norm(self._to_target())

    def _to_target(self) -> np.ndarray:
        return self._xpos[:, self._fingertip] - self._xpos[:, self._target]


class Pusher(Task):
    """Pushes an object to the goal; there is no version 4 for MuJoCo 3 and later."""

    def _prepare(self) -> None:
        xpos = self._sims.field("xpos")
        bodies = (self._sims.model.body(name).id for name in ("tips_arm", "object", "goal"))
        self._tips, self._object, self._goal = (xpos[:, body] for body in bodies)

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        near = -_norm(self._object - self._tips) * self._options["reward_near_weight"]
        distance = -_norm(self._object - self._goal) * self._options["reward_dist_weight"]
        control = -_square_sum(actions) * self._options["reward_control_weight"]
        return distance + control + near, self._never()

    def initial_state(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        model = self._sims.model
        cylinder = np.zeros(2)
        while np.linalg.norm(cylinder) <= 0.17:
            cylinder = np.array([rng.uniform(-0.3, 0), rng.uniform(-0.2, 0.2)])
        qpos = np.concatenate([model.qpos0[:-4], cylinder, np.zeros(2)])
        qvel = rng.uniform(-0.005, 0.005, model.nv)
        qvel[-4:] = 0
        return qpos, qvel

    def observations(self) -> np.ndarray:
        return _joined([self._sims.qpos[:, :7], self._sims.qvel[:, :7], self._tips, self._object, self._goal])


class InvertedPendulum(Task):
    """Stays upright; version 4 also rewards the step in which it falls."""

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fallen = np.abs(self._sims.qpos[:, 1]) > 0.2
        return np.ones(len(fallen)) if self._version == 4 else 1.0 - fallen, fallen


class InvertedDoublePendulum(Task):
    """Keeps its tip up; version 4 also rewards the step in which it falls, and observes the forces on all joints."""

    normal_velocities = True

    def _prepare(self) -> None:
        self._tip = self._sims.field("site_xpos")[:, 0]
        self._forces = self._sims.field("qfrc_constraint")[:, : 1 if self._version == 5 else None]

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x, height = self._tip[:, 0], self._tip[:, 2]
        v1, v2 = self._sims.qvel[:, 1], self._sims.qvel[:, 2]
        fallen = height <= 1
        alive = self._options["healthy_reward"] * (np.ones(len(fallen)) if self._version == 4 else ~fallen)
        distances = 0.01 * x**2 + (height - 2) ** 2
        return alive - distances - (1e-3 * v1**2 + 5e-3 * v2**2), fallen

    def observations(self) -> np.ndarray:
        position, angles = self._sims.qpos[:, :1], self._sims.qpos[:, 1:]
        clipped = (np.clip(values, -10, 10) for values in (self._sims.qvel, self._forces))
        return _joined([position, np.sin(angles), np.cos(angles), *clipped])


TASKS: dict[str, type[Task]] = {
    "ant": Ant,
    "half_cheetah": HalfCheetah,
    "hopper": Hopper,
    "humanoid": Humanoid,
    "humanoidstandup": HumanoidStandup,
    "inverted_double_pendulum": InvertedDoublePendulum,
    "inverted_pendulum": InvertedPendulum,
    "pusher": Pusher,
    "reacher": Reacher,
    "swimmer": Swimmer,
    "walker2d": Walker2d,
}


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts, axis=1, dtype=np.float32)


def _flat(values: np.ndarray, skip: int) -> np.ndarray:
    """Views `[N, K, ...]` without the first `skip` of `K` as `[N, D]`."""
    size = int(np.prod(values.shape[2:]))
    return values.reshape(len(values), -1)[:, skip * size :]


def _square_sum(values: np.ndarray) -> np.ndarray:
    """Sums the squares of `[N, ...]` by row, to the bit as one row alone would."""
    return np.square(values).reshape(len(values), -1).sum(1)


def _norm(vectors: np.ndarray) -> np.ndarray:
    """Lengths `[N]` of `[N, 3]`, to the bit as `numpy.linalg.norm` of one."""
    return np.sqrt(np.vecdot(vectors, vectors))
