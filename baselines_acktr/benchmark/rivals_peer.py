"""Trains one run of stable-baselines3 or sb3-contrib for `rivals`. Arguments and output are as in `rivals_ours`.

It imports nothing of this project, so that it can run in another Python, which has those libraries.
"""

import json
import os
import sys


def main(env_id: str, alg: str, *numbers: str) -> None:
    """Trains with default settings, and prints mean score, number of episodes and processor seconds as JSON."""
    seed, timesteps, num_env = map(int, numbers)
    import torch
    from sb3_contrib import TRPO
    from stable_baselines3 import A2C
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    scores: list[float] = []

    def note(own, _) -> bool:
        scores.extend(info["episode"]["r"] for info in own["infos"] if "episode" in info)
        return True

    env = make_vec_env(env_id, num_env, seed=seed)
    before = sum(os.times()[:4])
    model = {"a2c": A2C, "trpo": TRPO}[alg]("MlpPolicy", env, seed=seed, device="cpu")
    model.learn(timesteps, callback=note)
    seconds = sum(os.times()[:4]) - before
    last = scores[-100:]
    mean = sum(last) / len(last) if last else float("nan")
    print(json.dumps({"mean": mean, "episodes": len(scores), "seconds": seconds}))


if __name__ == "__main__":
    main(*sys.argv[1:])
