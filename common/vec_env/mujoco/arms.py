"""The MuJoCo tasks of arms and pendulums."""

from __future__ import annotations

import numpy as np

from common.vec_env.mujoco.tasks import Task, joined, norm, square_sum


class Reacher(Task):
    """Moves its fingertip to the target; version 4 takes the distance before the step."""

    def _prepare(self) -> None:
        self._xpos = self._sims.field("xpos")
        self._fingertip, self._target = (self._sims.model.body(name).id for name in ("fingertip", "target"))

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before, self.memory = self.memory, self._remembered()
        distances = before if self._version == 4 else self.memory
        near = -distances * self._options["reward_dist_weight"]
        return near - square_sum(actions) * self._options["reward_control_weight"], self._never()

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
        return joined([np.cos(qpos[:, :2]), np.sin(qpos[:, :2]), qpos[:, 2:], qvel[:, :2], to_target])

    def _remembered(self) -> np.ndarray:
        return norm(self._to_target())

    def _to_target(self) -> np.ndarray:
        return self._xpos[:, self._fingertip] - self._xpos[:, self._target]


class Pusher(Task):
    """Pushes an object to the goal; there is no version 4 for MuJoCo 3 and later."""

    def _prepare(self) -> None:
        xpos = self._sims.field("xpos")
        bodies = (self._sims.model.body(name).id for name in ("tips_arm", "object", "goal"))
        self._tips, self._object, self._goal = (xpos[:, body] for body in bodies)

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        near = -norm(self._object - self._tips) * self._options["reward_near_weight"]
        distance = -norm(self._object - self._goal) * self._options["reward_dist_weight"]
        control = -square_sum(actions) * self._options["reward_control_weight"]
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
        return joined([self._sims.qpos[:, :7], self._sims.qvel[:, :7], self._tips, self._object, self._goal])


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
        return joined([position, np.sin(angles), np.cos(angles), *clipped])
