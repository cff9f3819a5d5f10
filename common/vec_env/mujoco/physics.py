"""Many MuJoCo simulations of one model, stepped on the threads of `mujoco.batch.Batch`.

The results are to the bit those of one `MjData` per simulation under `mj_step`, whatever the number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import mujoco
import numpy as np
from mujoco.batch import Batch

_log = logging.getLogger(__name__)


class Simulations:
    """`N` simulations of one model.

    As after `mj_step`, fields other than the state describe the integrator's last stage: they lag behind the state.

    Attributes:
      model: the compiled model.
      dt: seconds of one `step`.
      state: `[N, S]`, everything that the next step depends on; the next four are views of it.
      coordinates: `[N, nq + nv]`, positions and velocities.
      qpos: `[N, nq]`, positions.
      qvel: `[N, nv]`, velocities.
      ctrl: `[N, nu]`, controls; MuJoCo clips them to the range of each actuator.
      contact_forces: `[N, nbody, 6]`, `cfrc_ext` of every body; stays zero unless asked for.
    """

    def __init__(
        self, model: mujoco.MjModel, num_envs: int, frame_skip: int, num_threads: int = 0, contact_forces: bool = False
    ) -> None:
        """Starts the threads, with all simulations in the model's default state.

        Args:
          model: the compiled model.
          num_envs: number of simulations `N`.
          frame_skip: simulation steps in one `step`.
          num_threads: threads, 0 for as many as there are cores.
          contact_forces: compute `contact_forces` after every step.
        """
        self.model = model
        self.num_envs = num_envs
        self.dt = model.opt.timestep * frame_skip
        self._frame_skip = frame_skip
        self._derives = False
        self._batch = Batch(model, num_envs, num_threads, persistent=contact_forces)
        self._batch.reset()
        self.state = self._batch.state
        self._default_state = self.state[0].copy()
        self.qpos, self.qvel, self.ctrl = (self._batch.bind(name) for name in ("qpos", "qvel", "ctrl"))
        self.coordinates = self.state[:, 1 : 1 + model.nq + model.nv]  # after the time
        self.contact_forces = np.zeros((num_envs, model.nbody, 6))
        self._contacts = self._batch.bind("ncon") if contact_forces else None
        self._data = mujoco.MjData(model)

    def field(self, name: str) -> np.ndarray:
        """Returns the live array `[N, ...]` of an `MjData` field that is not part of the state."""
        self._derives = True
        return self._batch.bind(name)

    def step(self) -> None:
        """Steps all simulations `frame_skip` times under their controls.

        Raises:
          mujoco.batch.SimulationError: MuJoCo refused some, as `ids` says.
        """
        with MujocoWarnings(_log.warning):
            self._batch.step(nstep=self._frame_skip)
        if self._contacts is not None:
            self._compute_contact_forces(self._contacts.nonzero()[0].tolist())

    def restart(self, rows: np.ndarray, starts: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        """Starts some simulations anew.

        Args:
          rows: int `[M]`, which ones, in rising order.
          starts: `M` times positions `[nq]` and velocities `[nv]`.
        """
        for i, (qpos, qvel) in zip(rows.tolist(), starts, strict=True):
            self.state[i] = self._default_state
            self.qpos[i] = qpos
            self.qvel[i] = qvel
        self.contact_forces[rows] = 0
        if self._derives:  # the state itself does not change
            with MujocoWarnings(_log.warning):
                self._batch.forward(rows)

    def _compute_contact_forces(self, rows: list[int]) -> None:
        """Does for the simulations that have contacts what Gymnasium does after `mj_step`.

        A force sensor would make `mj_step` compute `cfrc_ext` itself, but at the first stage of Runge-Kutta, not at its
        last.
        """
        self.contact_forces.fill(0)
        for i in rows:
            self._batch.get_data(i, self._data)
            mujoco.mj_rnePostConstraint(self.model, self._data)
            self.contact_forces[i] = self._data.cfrc_ext


def load_model(path: str) -> mujoco.MjModel:
    """Compiles a model, without the warnings on old attributes that MuJoCo would write to a file.

    Where all joints are of one tree, all constraints are of one island: not searching for islands saves a tenth of the
    time and changes no bit.
    """
    with MujocoWarnings(lambda message: None):
        model = mujoco.MjModel.from_xml_path(path)
    if model.ntree == 1:
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND
    return model


class MujocoWarnings:
    """Hands MuJoCo's warnings to `handler`; MuJoCo itself writes them to `MUJOCO_LOG.TXT` in the current directory."""

    def __init__(self, handler: Callable[[str], object]) -> None:
        self._handler = handler

    def __enter__(self) -> None:
        self._previous = mujoco.get_mju_user_warning()
        mujoco.set_mju_user_warning(self._handler)

    def __exit__(self, *error: object) -> None:
        mujoco.set_mju_user_warning(self._previous)
