"""Program that trains acktr for 30 updates with one seed in each of some environments.

It prints a hash of the bits of every state, as JSON: {environment: hash}.
"""

from __future__ import annotations

import hashlib
import json

from baselines_acktr import acktr_cont, acktr_discrete
from common.vec_env import make_vec_env

UPDATES = 30
# How an environment is learned, with which hyperparameters, and the timesteps of one update of four environments.
RUNS = {
    "CartPole-v1": (acktr_discrete.learn, {"nsteps": 5, "fisher_rows": 16}, 20),
    "BreakoutNoFrameskip-v4": (acktr_discrete.learn, {"nsteps": 5, "fisher_rows": 16}, 20),
    "HalfCheetah-v4": (acktr_cont.learn, {"timesteps_per_batch": 40, "vf_iters": 2}, 40),
}


def hash_of_training(env_id: str) -> str:
    learn, hyperparameters, batch = RUNS[env_id]
    with make_vec_env(env_id, 4, seed=1) as env:
        model = learn(env=env, seed=1, total_timesteps=UPDATES * batch, inverses="inline", **hyperparameters)
    digest = hashlib.sha256()
    for name, array in sorted(model.state().items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    print(json.dumps({env_id: hash_of_training(env_id) for env_id in RUNS}))
