"""Batches of environments, each of them a `gymnasium.vector.VectorEnv` with one contract.

`make_vec_env` builds them. Whatever the backend, with `N` environments:

* `reset(seed=None)` returns `(observations, infos)`. The first reset gives environment `i` the seed of `make_vec_env`
  plus `i`, `reset(seed=s)` gives it `s + i` or, of a list, `s[i]`, and a later `reset()` lets the random streams run
  on. With `options={"reset_mask": m}` (bool `[N]`) only the environments where it is true are reset.
* `step(actions)` returns `(observations, rewards, terminations, truncations, infos)` with shapes `[N, ...]`, float32
  `[N]`, bool `[N]`, bool `[N]`. Box observations of float64 arrive as float32, Atari frames as uint8 `[N, 84, 84, 4]`
  with the newest frame in the last channel. Later steps never write into an array that was returned.
* Autoreset is `AutoresetMode.SAME_STEP`: where an environment ended, the observation returned is already the first of
  the next episode, `infos["final_obs"]` (object `[N]`) holds a copy of the one that ended it and `infos["_final_obs"]`
  (bool `[N]`) says where. A time limit is a truncation: bootstrap from the final observation where
  `truncations & ~terminations`.
* `infos["final_info"]` and `infos["_final_info"]` are there beside them, as Gymnasium's own have them.
* `infos["episode"]` is there at the end of a game: `r` (float `[N]`) the game's own undiscounted score, before
  clipping and scaling, `l` (int `[N]`) its length in steps of the environment, `t` (float `[N]`) its duration in
  seconds, valid where `infos["_episode"]` (bool `[N]`). The loss of a life in an Atari game is a termination without
  `_episode`.
* `get_state()` returns arrays by name, and `set_state(state)` continues from them to the bit, in this or another
  process and without a reset; the last observations are the caller's to keep. Where `state_gap` (str) is not empty it
  says why that cannot be, and a reset is needed (see `env_state`).
* An environment that does not do what it declares is a `UserError` at its first reset or step, which names it (see
  `door`). A wrong action is a `ValueError` before anything is stepped; any other error closes all environments of the
  backends sync and subproc, and what is closed raises Gymnasium's `ClosedEnvironmentError`.
* Leaving a `with` block closes the environment; closing twice is harmless.
"""

from common.vec_env.make import make_vec_env

__all__ = ["make_vec_env"]
