"""The MuJoCo tasks that walk, run, swim or stand up."""

from __future__ import annotations

import numpy as np

from common.vec_env.mujoco.tasks import Task, flat, joined, square_sum


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
        return self._options["ctrl_cost_weight"] * square_sum(actions)

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
        return joined([self._seen, flat(self._contact_forces(), 1 if self._version == 5 else 0)])

    def _contact_forces(self) -> np.ndarray:
        return np.clip(self._sims.contact_forces, *self._options["contact_force_range"])

    def _costs(self, actions: np.ndarray) -> np.ndarray:
        costs = super()._costs(actions)
        if self._pays_contacts:
            costs = costs + self._options["contact_cost_weight"] * square_sum(self._contact_forces())
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
            flat(fields[name], skip) for name, skip in skips.items() if self._options[f"include_{name}_in_observation"]
        ]

    def observations(self) -> np.ndarray:
        return joined([self._seen, *self._bodies])

    def _control_costs(self) -> np.ndarray:
        return self._options["ctrl_cost_weight"] * square_sum(self._sims.ctrl)

    def _contact_costs(self, weight: str, limits: str) -> np.ndarray:
        return np.clip(self._options[weight] * square_sum(self._sims.contact_forces), *self._options[limits])


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
