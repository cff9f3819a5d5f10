"""Program that trains every learner for 20 updates and prints what became of it, as JSON.

`python tests/helpers/golden_runs.py > tests/data/golden.json` renews what `test_golden.py` compares
with. That is right only in a commit that changes the arithmetic on purpose and says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys

# Every sum is taken in the order of one thread: the bits may not depend on how many cores there are.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
}
os.environ.update(ENVIRONMENT)

import numpy as np  # noqa: E402
import scipy.linalg  # noqa: E402
import tensorflow as tf  # noqa: E402

from baselines_acktr import a2c, acktr_cont, acktr_discrete, trpo  # noqa: E402
from common.vec_env import make_vec_env  # noqa: E402

UPDATES = 20
INLINE = {"inverses": "inline", "inverse_interval": 3}
CONTINUOUS = {"hidden_sizes": (8,), "timesteps_per_batch": 40, "vf_rows": 20, "vf_iters": 5}
# On tiny batches TRPO turns the last bits into whole percents, unless its steps are short and the Fisher is damped.
TRPO = CONTINUOUS | {"timesteps_per_batch": 20, "vf_rows": 10, "cg_iters": 2, "damping": 3.0}
# What the learners had before these defaults changed: a default that changes is no change of the arithmetic.
ACKTR_DISCRETE = {"hidden_sizes": (8,), "fisher_rows": 16, "ent_coef": 0.01}
A2C_DISCRETE = {"hidden_sizes": (8,), "nsteps": 5, "value_network": "shared", "lr": 0.0007, "first_rate": 0.0}
TRPO_DISCRETE = TRPO | {"max_kl": 0.001, "gamma": 0.98, "lam": 1.0, "vf_stepsize": 1e-4}
# What each learner trains on, with which hyperparameters, and the timesteps of one update.
RUNS = {
    "acktr-discrete": (acktr_discrete.learn, "CartPole-v1", ACKTR_DISCRETE | INLINE, 40),
    "acktr-continuous": (acktr_cont.learn, "Pendulum-v1", CONTINUOUS | INLINE, 40),
    "a2c-discrete": (a2c.learn, "CartPole-v1", A2C_DISCRETE, 10),
    "a2c-continuous": (a2c.learn, "Pendulum-v1", CONTINUOUS | {"first_rate": 0.0}, 40),
    "trpo-discrete": (trpo.learn, "CartPole-v1", TRPO_DISCRETE, 20),
    "trpo-continuous": (trpo.learn, "Pendulum-v1", TRPO, 20),
}


def final_state(name: str) -> dict[str, np.ndarray]:
    """The state of a learner after its 20 updates."""
    learn, env_id, hyperparameters, batch = RUNS[name]
    with make_vec_env(env_id, 2, seed=5) as env:
        model = learn(env=env, seed=5, total_timesteps=UPDATES * batch, **hyperparameters)
    assert model.updates == UPDATES
    return model.state()


def digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of the names, types, shapes and bytes of arrays."""
    total = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        total.update(f"{name} {array.dtype.str} {array.shape};".encode())
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def summary(array: np.ndarray) -> list[float]:
    """How many numbers an array has, their sum and the sum of their squares, in float64."""
    numbers = array.astype(np.float64).ravel()
    return [numbers.size, float(numbers.sum()), float(np.square(numbers).sum())]


def probe() -> str:
    """Hash of the bits that this machine's libraries give for a few fixed computations.

    Where it differs, the learners' bits may differ without any change of the code.
    """
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 48, 48)).astype(np.float32)
    spd = x @ x.T + np.eye(48, dtype=np.float32)
    rows = tf.constant(x), tf.constant(y)
    generator = tf.random.Generator.from_seed(3)
    found = [spd, np.exp(x), np.log(np.abs(x)), np.tanh(x), x.sum(axis=0), x[:5] @ y[:, 0]]
    found += [scipy.linalg.cholesky(spd), *scipy.linalg.eigh(spd), np.linalg.inv(spd)]
    found += [tensor.numpy() for tensor in (rows[0] @ rows[1], tf.exp(rows[0]), tf.tanh(rows[0]), tf.nn.elu(rows[0]))]
    found += [tf.reduce_sum(rows[0], 1).numpy(), tf.nn.log_softmax(rows[0]).numpy(), generator.normal((64,)).numpy()]
    return digest({str(i): array for i, array in enumerate(found)})


def main() -> None:
    result: dict[str, object] = {"probe": probe()}
    for name in RUNS:
        arrays = final_state(name)
        result[name] = {"hash": digest(arrays), "arrays": {key: summary(arrays[key]) for key in sorted(arrays)}}
    json.dump(result, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
