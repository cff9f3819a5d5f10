"""Program under `mpirun`: learns from fixed batches on all ranks, and in one of them alone; writes how they differ.

The rows of a batch lie in the ranks one after the other. Alone, each learner shuffles them as all ranks together do.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import gymnasium as gym
import keras
import numpy as np

from baselines_acktr import a2c, acktr_cont, acktr_discrete, trpo
from baselines_acktr.learning.rollouts import Rollout
from baselines_acktr.session import ranks
from baselines_acktr.session.measurements import Measurements
from common.errors import RunFailedError
from common.mpi import ALONE, connect

STEPS, ENVS, UPDATES = 20, 8, 20
VECTOR = gym.spaces.Box(-np.inf, np.inf, (3,), np.float32)
IMAGE = gym.spaces.Box(0, 255, (12, 12, 2), np.uint8)
BOX = gym.spaces.Box(-1, 1, (2,), np.float32)
SMALL = {"hidden_sizes": (8,)}
CNN = {"conv_filters": (4, 4), "conv_kernels": (4, 2), "conv_strides": (2, 1), "fisher_sites": 6} | SMALL
KFAC = {"inverses": "inline", "inverse_interval": 2, "fisher_rows": 0}
LIMITED = {"delta": 1e-5, "stats_decay": 0.0}  # every step is shortened
CRITIC = {"vf_iters": 3, "vf_rows": 0}
TRPO = SMALL | CRITIC | {"fisher_fraction": 1.0}
CASES = {
    "acktr-discrete": (acktr_discrete.Model, VECTOR, gym.spaces.MultiDiscrete([3, 2]), KFAC | SMALL),
    "acktr-damped": (acktr_discrete.Model, VECTOR, gym.spaces.MultiDiscrete([3, 2]), KFAC | SMALL | {"damping": 1.0}),
    "acktr-limited": (acktr_discrete.Model, VECTOR, gym.spaces.Discrete(3), KFAC | SMALL | LIMITED),
    "acktr-images": (acktr_discrete.Model, IMAGE, gym.spaces.Discrete(3), KFAC | CNN | {"inverse_form": "cholesky"}),
    "acktr-continuous": (acktr_cont.Model, VECTOR, BOX, KFAC | SMALL | {"vf_iters": 3, "critic": "adaptive"}),
    "a2c-discrete": (a2c.DiscreteModel, VECTOR, gym.spaces.Discrete(3), SMALL),
    "a2c-continuous": (a2c.ContinuousModel, VECTOR, BOX, SMALL | CRITIC),
    "trpo": (trpo.ContinuousModel, VECTOR, BOX, TRPO),
    "trpo-damped": (trpo.ContinuousModel, VECTOR, BOX, TRPO | {"damping": 10.0}),
}


def make_model(name, comm, **changes):
    model_class, observations, actions, options = CASES[name]
    options = options | ({"timesteps_per_batch": STEPS * ENVS} if "vf_iters" in options else {}) | changes
    network = model_class.default_network(observations)
    return model_class(observations, actions, network, model_class.config_class(**options), 5, comm=comm)


def make_rollout(model, update: int) -> Rollout:
    """The whole batch of an update."""
    rng, shape = np.random.default_rng([7, update]), (STEPS, ENVS)
    observations = rng.normal(size=shape + model.observation_space.shape)
    if model.observation_space.dtype == np.uint8:
        observations = 128 + 20 * observations
    observations = observations.astype(model.observation_space.dtype)
    box = isinstance(model.action_space, gym.spaces.Box)
    size = shape + model.action_space.shape
    actions = rng.normal(size=size).astype(keras.config.floatx()) if box else rng.integers(0, 2, size)
    rewards, values, following = rng.normal(size=(3, *shape)).astype(keras.config.floatx())
    return Rollout(observations, actions, rewards, rng.random(shape) < 0.3, values, following)


def learn(model, updates: int = UPDATES):
    """Trains on this rank's environments of every batch."""
    width = ENVS // model.comm.size
    own = slice(model.comm.rank * width, (model.comm.rank + 1) * width)
    for model.updates in range(updates):
        rollout = Rollout(*(column[:, own] for column in make_rollout(model, model.updates)[:-1]))
        measurements = Measurements(model, rollout)
        model.update(rollout, 10**6)
        measurements.after_update()
        model.timesteps += STEPS * ENVS
    return model


def order_of_all(model, size: int):
    """The order in which `size` ranks together have the rows of a batch [T, N] of all environments."""
    width, own = ENVS // size, type(model).row_order
    rows = np.arange(STEPS * ENVS).reshape(STEPS, size, width).swapaxes(0, 1).reshape(size, -1)
    return lambda count: rows[:, own(model, count // size)].ravel()


def differences(cases: list[str], comm) -> dict[str, float] | None:
    """Largest difference of an array of the state after training from that of a single process, relative, by case.

    The ranks share the cases to be trained alone among them, so that none waits for another; rank 0 has the result.
    """
    together = {case: state_together(*case.split(":"), comm) for case in cases}
    own = {case: difference(*case.split(":"), comm.size, together[case]) for case in cases[comm.rank :: comm.size]}

    found = comm.gather(own)
    return {case: largest for part in found for case, largest in part.items()} if found else None


def state_together(name: str, floats: str, comm) -> dict[str, np.ndarray]:
    """The state after training on all ranks, the same in each of them."""
    _use(floats)
    model = learn(make_model(name, comm))
    ranks.check_in_sync(model)
    return model.state()


def difference(name: str, floats: str, size: int, together: dict[str, np.ndarray]) -> float:
    """How far the state of `size` ranks is from that of a single process, which is trained here.

    Left out are the inverses, and the velocities, which without momentum are the last step and not a state.
    """
    _use(floats)
    model = make_model(name, ALONE)
    model.row_order = order_of_all(model, size)
    alone = learn(model).state()
    compared = [key for key in together if together[key].dtype.kind == "f" and not re.search("inverse|velocity", key)]
    return max(float(np.abs(together[key] - alone[key]).max() / np.abs(alone[key]).max()) for key in compared)


def _use(floats: str) -> None:
    keras.config.set_floatx(floats)
    keras.config.set_dtype_policy(floats)


def background(comm) -> int:
    """Age of the inverses after training with a background thread in each rank, whose results all ranks share."""
    _use("float32")
    model = learn(make_model("acktr-discrete", comm, inverses="background"))
    model.optimizer.await_inverses()
    ranks.check_in_sync(model)
    model.close()
    return model.status()["inverse_age"]


def mismatch(comm) -> str:
    """What is said when one rank's weights are changed."""
    model = make_model("a2c-discrete", comm)
    if comm.rank == 1:
        model.network.trainable_variables[1].assign_add([1e-7] * 8)
    try:
        ranks.check_in_sync(model)
    except RunFailedError as error:
        return str(error)
    return ""


def main() -> None:
    comm = connect()
    path, *cases = sys.argv[1:]
    found = differences(cases, comm)
    others = {"background": background(comm), "mismatch": mismatch(comm)}
    if found is not None:
        Path(path).write_text(json.dumps(found | others))


if __name__ == "__main__":
    main()
