"""The MuJoCo tasks in which a body walks, runs, swims or stands up."""

from __future__ import annotations

import numpy as np

from common.vec_env.mujoco.tasks import Task, flat, joined, square_sum


class _Runner(Task):
    """Runs along x. The reward is `forward_reward_weight dx/dt - costs`."""

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._forward_rewards() - self._costs(actions), self._never()

    def _forward_rewards(self) -> np.ndarray:
        x = self._remembered()
        velocities = (x - self.memory) / self._sims.dt  # [N]
        self.memory = x
        return self._options["forward_reward_weight"] * velocities

    def _costs(self, actions: np.ndarray) -> np.ndarray:
        return self._options["ctrl_cost_weight"] * square_sum(actions)

    def _remembered(self) -> np.ndarray:
        return self._sims.qpos[:, 0].copy()


class HalfCheetah(_Runner):
    """A two-legged runner in a plane. Episodes never terminate."""

    skipped = 1
    normal_velocities = True


class Swimmer(_Runner):
    """A chain of three links in a viscous fluid. Episodes never terminate."""

    skipped = 2


class _Walker(_Runner):
    """A runner that has to stay healthy. Version 4 also gives the healthy reward for the step in which it falls."""

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        ends = self._options["terminate_when_unhealthy"]
        healthy = self._healthy()
        survived = 1.0 if ends and self._version == 4 else healthy
        rewards = self._forward_rewards() + survived * self._options["healthy_reward"]
        terminations = ~healthy if ends else self._never()
        return rewards - self._costs(actions), terminations

    def _healthy(self) -> np.ndarray:
        raise NotImplementedError


class Walker2d(_Walker):
    """A two-legged walker in a plane. It is healthy while its height and angle are within their ranges.

    Observed velocities are clipped to [-10, 10].
    """

    skipped = 1

    def _prepare(self) -> None:
        self._limits = np.tile([[-np.inf], [np.inf]], self._sims.coordinates.shape[1])  # [2, nq + nv]
        self._limits[:, 1] = self._options["healthy_z_range"]
        self._limits[:, 2] = self._options["healthy_angle_range"]

    def observations(self) -> np.ndarray:
        observations = super().observations()
        velocities = observations[:, -self._sims.qvel.shape[1] :]  # [N, nv], a view
        np.clip(velocities, -10, 10, out=velocities)
        return observations

    def _healthy(self) -> np.ndarray:
        low, high = self._limits
        coordinates = self._sims.coordinates
        return ((low < coordinates) & (coordinates < high)).all(1)


class Hopper(Walker2d):
    """A one-legged hopper in a plane.

    It is healthy while its height, its angle and all other coordinates are within their ranges.
    """

    def _prepare(self) -> None:
        super()._prepare()
        low, high = self._options["healthy_state_range"]
        np.clip(self._limits[:, 2:], low, high, out=self._limits[:, 2:])


class Ant(_Walker):
    """A four-legged walker in space. It is healthy while its height is within a range.

    In version 4 contact forces are optional, and those on the world body are observed as well.
    """

    skipped = 2
    normal_velocities = True
    contact_forces = True

    def _prepare(self) -> None:
        self._body = self._sims.model.body(self._options["main_body"]).id
        self._xpos = self._sims.field("xpos")  # [N, nbody, 3]
        self._pays_contacts = self._options.get("use_contact_forces", True)
        self._sees_contacts = self._pays_contacts and self._options["include_cfrc_ext_in_observation"]

    def observations(self) -> np.ndarray:
        if not self._sees_contacts:
            return super().observations()

        skip_world = 1 if self._version == 5 else 0
        return joined([self._seen, flat(self._contact_forces(), skip_world)])

    def _contact_forces(self) -> np.ndarray:
        return np.clip(self._sims.contact_forces, *self._options["contact_force_range"])

    def _costs(self, actions: np.ndarray) -> np.ndarray:
        costs = super()._costs(actions)
        if self._pays_contacts:
            contacts = square_sum(self._contact_forces())  # [N]
            costs = costs + self._options["contact_cost_weight"] * contacts
        return costs

    def _healthy(self) -> np.ndarray:
        low, high = self._options["healthy_z_range"]
        height = self._sims.qpos[:, 2]
        return (low <= height) & (height <= high)

    def _remembered(self) -> np.ndarray:
        return self._xpos[:, self._body, 0].copy()


class _BodyObserver(Task):
    """Observes inertia, velocity and forces of its bodies. Version 4 includes the world body and the free joint."""

    skipped = 2
    contact_forces = True

    def _prepare(self) -> None:
        skip_world, skip_free_joint = (1, 6) if self._version == 5 else (0, 0)
        skips = {
            "cinert": skip_world,
            "cvel": skip_world,
            "qfrc_actuator": skip_free_joint,
            "cfrc_ext": skip_world,
        }
        fields = {name: self._sims.field(name) for name in skips}  # [N, bodies or joints, ...] each
        fields["cfrc_ext"] = self._sims.contact_forces

        observed = [name for name in skips if self._options[f"include_{name}_in_observation"]]
        self._bodies = [flat(fields[name], skips[name]) for name in observed]  # [N, d] each

    def observations(self) -> np.ndarray:
        return joined([self._seen, *self._bodies])

    def _control_costs(self) -> np.ndarray:
        return self._options["ctrl_cost_weight"] * square_sum(self._sims.ctrl)

    def _contact_costs(self, weight: str, limits: str) -> np.ndarray:
        costs = self._options[weight] * square_sum(self._sims.contact_forces)  # [N]
        return np.clip(costs, *self._options[limits])


class Humanoid(_BodyObserver, _Walker):
    """A humanoid that walks. Its position is that of its centre of mass. Version 4 has no contact costs."""

    def _prepare(self) -> None:
        super()._prepare()
        self._xipos = self._sims.field("xipos")  # [N, nbody, 3]

    def _costs(self, actions: np.ndarray) -> np.ndarray:
        if self._version == 4:
            return self._control_costs()

        contacts = self._contact_costs("contact_cost_weight", "contact_cost_range")
        return self._control_costs() + contacts

    def _healthy(self) -> np.ndarray:
        low, high = self._options["healthy_z_range"]
        height = self._sims.qpos[:, 2]
        return (low < height) & (height < high)

    def _remembered(self) -> np.ndarray:
        masses = self._sims.model.body_mass  # [nbody]
        return np.einsum("b,nbj->nj", masses, self._xipos)[:, 0] / masses.sum()


class HumanoidStandup(_BodyObserver):
    """A humanoid that lies on the floor and has to stand up. Episodes never terminate.

    The reward is `torso height / timestep - control costs - impact costs + 1`.
    """

    def outcomes(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        up = self._sims.qpos[:, 2] / self._sims.model.opt.timestep
        impacts = self._contact_costs("impact_cost_weight", "impact_cost_range")
        return up - self._control_costs() - impacts + 1, self._never()
