"""Vector environments: batches of environments, each of them a `gymnasium.vector.VectorEnv` with one contract.

`make_vec_env` builds them. The contract holds for every backend. With `N` environments:

* `reset(seed=None)` returns `(observations, infos)`. The first reset gives environment `i` the seed
  `seed + i`, where `seed` is that of `make_vec_env`. A later `reset()` continues the random streams.
  `reset(seed=s)` gives environment `i` the seed `s + i`, or `s[i]` if `s` is a list.
  With `options={"reset_mask": m}` (bool `[N]`), only the environments where the mask is true are reset.
* `step(actions)` returns `(observations, rewards, terminations, truncations, infos)` with shapes `[N, ...]`,
  float32 `[N]`, bool `[N]` and bool `[N]`. Box observations of float64 are converted to float32. Atari frames are
  uint8 `[N, 84, 84, 4]` with the newest frame in the last channel. Later steps never write into an array that was
  returned.
* Autoreset is `AutoresetMode.SAME_STEP`: when an episode ends, `step` returns the first observation of the next one.
  The last observation of the episode that ended is in `infos["final_obs"]` (object `[N]`, copies), and
  `infos["_final_obs"]` (bool `[N]`) marks the environments that ended. A time limit is a truncation: bootstrap from
  the final observation where `truncations & ~terminations`.
* `infos["final_info"]` and `infos["_final_info"]` accompany them, as in Gymnasium's own vector environments.
* `infos["episode"]` is present when a game ends. `r` (float `[N]`) is the undiscounted score of the game before
  clipping and scaling, `l` (int `[N]`) its length in steps of the environment, and `t` (float `[N]`) its duration in
  seconds. The values are valid where `infos["_episode"]` (bool `[N]`) is true. Losing a life in an Atari game is a
  termination without `_episode`.
* `get_state()` returns the state as named arrays, and `set_state(state)` continues from it exactly, without a reset,
  also in another process. The last observations are not part of the state; the caller keeps them. If `state_gap`
  (str) is not empty, it says why the state cannot be read, and a reset is needed (see `env_state`).
* An environment that does not do what it declares raises a `UserError` that names it at its first reset or step
  (see `door`). A wrong action raises a `ValueError` before any environment is stepped. After any other error, the
  backends sync and subproc close all their environments. A closed environment raises Gymnasium's
  `ClosedEnvironmentError`.
* Leaving a `with` block closes the environment. Closing twice is harmless.
"""

from typing import TYPE_CHECKING, Any

from common.foreign_names import missing
from common.vec_env.make import make_vec_env

__all__ = ["make_vec_env"]

_MAKE = "Write make_vec_env(env, num_env"
# Names of Baselines and Stable-Baselines.
_FOREIGN = {
    "DummyVecEnv": f'{_MAKE}, backend="sync").',
    "SubprocVecEnv": f'{_MAKE}, backend="subproc").',
    "ShmemVecEnv": f'{_MAKE}, backend="subproc").',
    "VecEnv": "Environments are a gymnasium.vector.VectorEnv here.",
    "VecMonitor": f"{_MAKE}, log_dir=FOLDER).",
    "VecFrameStack": f"{_MAKE}): Atari games have four frames stacked, or frame_stack=.",
    "VecNormalize": "It is not needed: learners for continuous actions standardise observations themselves.",
    "VecVideoRecorder": "Write play(model, env, video=FILE.mp4), from baselines_acktr.play.",
    "make_atari_env": f"{_MAKE}), which preprocesses Atari games.",
}

if not TYPE_CHECKING:  # a type checker would take every name for one of this package

    def __getattr__(name: str) -> Any:
        raise missing(__name__, name, _FOREIGN)
