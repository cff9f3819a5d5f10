"""The MuJoCo tasks with arms and pendulums."""

from __future__ import annotations

import numpy as np

from common.vec_env.mujoco.tasks import Task, joined, norm, square_sum


class Reacher(Task):
    """An arm with two joints that moves its fingertip to a target.

    The reward is `-reward_dist_weight distance - reward_control_weight |action|^2`. Version 4 takes the distance before
    the step. Episodes never terminate.
    """

    def _prepare(self) -> None:
        self._xpos = self._sims.field("xpos")  # [N, nbody, 3]
        self._fingertip = self._sims.model.body("fingertip").id
        self._target = self._sims.model.body("target").id

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        before = self.memory
        self.memory = self._remembered()
        distances = before if self._version == 4 else self.memory  # [N]
        near = -distances * self._options["reward_dist_weight"]
        control = square_sum(actions) * self._options["reward_control_weight"]  # [N]
        return near - control, self._never()

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
        qpos = self._sims.qpos
        qvel = self._sims.qvel
        dimensions = 2 if self._version == 5 else 3
        to_target = self._to_target()[:, :dimensions]

        angles = qpos[:, :2]
        return joined([np.cos(angles), np.sin(angles), qpos[:, 2:], qvel[:, :2], to_target])

    def _remembered(self) -> np.ndarray:
        return norm(self._to_target())

    def _to_target(self) -> np.ndarray:
        return self._xpos[:, self._fingertip] - self._xpos[:, self._target]


class Pusher(Task):
    """An arm that pushes an object to a goal. Version 4 does not exist for MuJoCo 3 and later.

    The reward falls with the distance from object to goal, the distance from fingertips to object, and the squared
    action, each with a weight. Episodes never terminate.
    """

    def _prepare(self) -> None:
        xpos = self._sims.field("xpos")  # [N, nbody, 3]
        bodies = (self._sims.model.body(name).id for name in ("tips_arm", "object", "goal"))
        self._tips, self._object, self._goal = (xpos[:, body] for body in bodies)

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        near = -norm(self._object - self._tips) * self._options["reward_near_weight"]  # [N]
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
        positions = self._sims.qpos[:, :7]
        velocities = self._sims.qvel[:, :7]
        return joined([positions, velocities, self._tips, self._object, self._goal])


class InvertedPendulum(Task):
    """A cart that balances a pole.

    The reward is 1 per step. An episode terminates when the pole tilts by more than 0.2 rad; version 4 gives the reward
    also for that step.
    """

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        fallen = np.abs(self._sims.qpos[:, 1]) > 0.2  # [N]
        rewards = np.ones(len(fallen)) if self._version == 4 else 1.0 - fallen
        return rewards, fallen


class InvertedDoublePendulum(Task):
    """A cart that balances two poles on top of each other.

    The reward is `healthy_reward - distances - velocities`, where `distances` are those of the tip from its upright
    position. An episode terminates when the tip is at a height of 1 m or less. Version 4 gives the healthy reward also
    for the step in which the poles fall, and observes the constraint forces on all joints.
    """

    normal_velocities = True

    def _prepare(self) -> None:
        self._tip = self._sims.field("site_xpos")[:, 0]  # [N, 3]
        observed = 1 if self._version == 5 else None
        self._forces = self._sims.field("qfrc_constraint")[:, :observed]  # [N, joints]

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = self._tip[:, 0]  # [N]
        height = self._tip[:, 2]
        v1 = self._sims.qvel[:, 1]
        v2 = self._sims.qvel[:, 2]
        fallen = height <= 1

        survived = np.ones(len(fallen)) if self._version == 4 else ~fallen
        alive = self._options["healthy_reward"] * survived
        distances = 0.01 * x**2 + (height - 2) ** 2
        velocities = 1e-3 * v1**2 + 5e-3 * v2**2
        return alive - distances - velocities, fallen

    def observations(self) -> np.ndarray:
        position = self._sims.qpos[:, :1]
        angles = self._sims.qpos[:, 1:]
        clipped = (np.clip(values, -10, 10) for values in (self._sims.qvel, self._forces))
        return joined([position, np.sin(angles), np.cos(angles), *clipped])
