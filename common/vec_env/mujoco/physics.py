"""Many MuJoCo simulations of one model, stepped by the threads of `mujoco.batch.Batch`.

The results are exactly those of stepping each simulation with `mj_step` on an `MjData` of its own, for any number of
threads.
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

    After a step, fields that are not part of the state describe the last stage of the integrator, so they lag behind
    the state. This is the same after `mj_step`.

    Attributes:
      model: the compiled model.
      dt: seconds of simulated time per `step`.
      state: `[N, S]`, everything that the next step depends on. The next four attributes are views of it.
      coordinates: `[N, nq + nv]`, positions and velocities.
      qpos: `[N, nq]`, positions.
      qvel: `[N, nv]`, velocities.
      ctrl: `[N, nu]`, controls. MuJoCo clips them to the range of each actuator.
      contact_forces: `[N, nbody, 6]`, `cfrc_ext` of every body. It stays zero unless it was requested.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        frame_skip: int,
        num_threads: int = 0,
        contact_forces: bool = False,
    ) -> None:
        """Starts the threads. All simulations are in the default state of the model.

        Args:
          model: the compiled model.
          num_envs: number of simulations `N`.
          frame_skip: simulation steps per `step`.
          num_threads: number of threads; 0 for as many as there are cores.
          contact_forces: whether to compute `contact_forces` after every step.
        """
        self.model = model
        self.num_envs = num_envs
        self.dt = model.opt.timestep * frame_skip
        self._frame_skip = frame_skip
        self._derives = False

        self._batch = Batch(model, num_envs, num_threads, persistent=contact_forces)
        self._batch.reset()

        self.state = self._batch.state  # [N, S]
        self._default_state = self.state[0].copy()
        self.qpos = self._batch.bind("qpos")  # [N, nq]
        self.qvel = self._batch.bind("qvel")  # [N, nv]
        self.ctrl = self._batch.bind("ctrl")  # [N, nu]
        self.coordinates = self.state[:, 1 : 1 + model.nq + model.nv]  # the first column is the time

        self.contact_forces = np.zeros((num_envs, model.nbody, 6))
        self._contacts = self._batch.bind("ncon") if contact_forces else None
        self._data = mujoco.MjData(model)

    def field(self, name: str) -> np.ndarray:
        """Returns an array `[N, ...]` with a field of `MjData` that is not part of the state, such as "xpos".

        Every step and every restart updates the array.
        """
        self._derives = True
        return self._batch.bind(name)

    def step(self) -> None:
        """Steps all simulations `frame_skip` times with their controls.

        Raises:
          mujoco.batch.SimulationError: MuJoCo refused to step some simulations; the error lists them in `ids`.
        """
        with MujocoWarnings(_log.warning):
            self._batch.step(nstep=self._frame_skip)
        if self._contacts is not None:
            self._compute_contact_forces(self._contacts.nonzero()[0].tolist())

    def restart(self, rows: np.ndarray, starts: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
        """Moves some simulations to initial states.

        Args:
          rows: int `[M]`, indices of the simulations, ascending.
          starts: for each of them, positions `[nq]` and velocities `[nv]`.
        """
        for i, (qpos, qvel) in zip(rows.tolist(), starts, strict=True):
            self.state[i] = self._default_state
            self.qpos[i] = qpos
            self.qvel[i] = qvel

        self.contact_forces[rows] = 0
        if self._derives:  # computes the other fields from the state
            with MujocoWarnings(_log.warning):
                self._batch.forward(rows)

    def _compute_contact_forces(self, rows: list[int]) -> None:
        """Computes the contact forces of the simulations that have contacts, as Gymnasium does after `mj_step`.

        With a force sensor in the model, `mj_step` would compute `cfrc_ext` itself, but at the first stage of Runge-
        Kutta instead of the last.
        """
        self.contact_forces.fill(0)
        for i in rows:
            self._batch.get_data(i, self._data)
            mujoco.mj_rnePostConstraint(self.model, self._data)
            self.contact_forces[i] = self._data.cfrc_ext


def load_model(path: str) -> mujoco.MjModel:
    """Compiles a model, and suppresses the warnings about old attributes that MuJoCo would write to a file.

    If all joints belong to one tree, all constraints belong to one island. Then the search for islands is switched off,
    which saves a tenth of the time and leaves the results exactly the same.
    """
    with MujocoWarnings(lambda message: None):
        model = mujoco.MjModel.from_xml_path(path)
    if model.ntree == 1:
        model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_ISLAND
    return model


class MujocoWarnings:
    """A context manager that passes MuJoCo's warnings to `handler`.

    Otherwise MuJoCo writes them to `MUJOCO_LOG.TXT` in the current directory.
    """

    def __init__(self, handler: Callable[[str], object]) -> None:
        self._handler = handler

    def __enter__(self) -> None:
        self._previous = mujoco.get_mju_user_warning()
        mujoco.set_mju_user_warning(self._handler)

    def __exit__(self, *error: object) -> None:
        mujoco.set_mju_user_warning(self._previous)
