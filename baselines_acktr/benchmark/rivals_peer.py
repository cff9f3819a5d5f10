"""Trains a model of stable-baselines3 or sb3-contrib, for as long as it is told to.

    python rivals_peer.py ENV ALG SEED TIMESTEPS NUM_ENV [BATCH]

It prints a line of JSON: the mean score of the last 100 episodes, the number of episodes and the processor seconds so
far. Where TIMESTEPS is "-" it reads numbers of timesteps from the standard input, one a line, and goes on for so many
after each, with such a line of results for each of them. BATCH is the number of timesteps of all environments in a
batch; all else has the library's defaults.

It imports nothing of this project, so that it can run in another Python, which has those libraries.
"""

import json
import os
import sys


class Peer:
    """A model in training.

    Args:
      env_id: of the environments.
      alg: a2c, ppo or trpo.
      seed: of model and environments.
      num_env: number of environments.
      batch: timesteps of all environments in a batch; None for the library's default.
    """

    def __init__(self, env_id: str, alg: str, seed: int, num_env: int, batch: int | None = None) -> None:
        import torch
        from sb3_contrib import TRPO
        from stable_baselines3 import A2C, PPO

        env, policy = make_env(env_id, seed, num_env)
        if policy != "CnnPolicy":
            torch.set_num_threads(1)  # on networks for vectors a second one would only cost time
        own = {} if batch is None else {"n_steps": batch // num_env}
        self._before = sum(os.times()[:4])
        self._model = {"a2c": A2C, "ppo": PPO, "trpo": TRPO}[alg](policy, env, seed=seed, device="cpu", **own)
        self._scores: list[float] = []

    def train(self, timesteps: int) -> dict[str, float]:
        """Trains for so many more timesteps, whole batches, and returns the results so far."""
        self._model.learn(timesteps, callback=self._note, reset_num_timesteps=False)
        last = self._scores[-100:]
        return {
            "mean": sum(last) / len(last) if last else float("nan"),
            "episodes": len(self._scores),
            "seconds": sum(os.times()[:4]) - self._before,
        }

    def _note(self, own, _) -> bool:
        self._scores.extend(info["episode"]["r"] for info in own["infos"] if "episode" in info)
        return True


def make_env(env_id: str, seed: int, num_env: int):
    """The environments as the library's documentation makes them, and the name of the policy that suits them.

    Games of Atari get its wrappers and a process each; all others are stepped in this process.
    """
    from stable_baselines3.common.env_util import make_atari_env, make_vec_env
    from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack

    name = env_id.rpartition(":")[2]
    if "NoFrameskip" in name or name.startswith("ALE/"):
        every_frame = {"frameskip": 1}  # the wrappers skip
        games = make_atari_env(  # by a name with which every process imports what registers it
            f"ale_py:{name}", num_env, seed, env_kwargs=every_frame, vec_env_cls=SubprocVecEnv
        )
        return VecFrameStack(games, 4), "CnnPolicy"

    env = make_vec_env(env_id, num_env, seed=seed)
    return env, "CnnPolicy" if len(env.observation_space.shape or ()) == 3 else "MlpPolicy"


def main(env_id: str, alg: str, seed: str, timesteps: str, *numbers: str) -> None:
    """Trains, and prints the results."""
    peer = Peer(env_id, alg, int(seed), *map(int, numbers))
    for line in sys.stdin if timesteps == "-" else [timesteps]:
        print(json.dumps(peer.train(int(line))), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
