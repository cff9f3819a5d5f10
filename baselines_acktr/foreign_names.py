"""What users of other libraries look for in this package and in its functions, with what to write instead.

Flags are in `session.foreign_flags`, environments in `common.vec_env`.
"""

from __future__ import annotations

_ACKTR = "Write `from baselines_acktr import acktr_discrete` (acktr_cont where actions are a Box)"
_OTHERS = "There are ACKTR, A2C and TRPO: the modules acktr_discrete, acktr_cont, a2c and trpo have `learn`."
_MAKE = "Write `from common.vec_env import make_vec_env`."
_EVALUATE = "Write `baselines_acktr.evaluate(model, env, episodes=100)`, which returns scores and lengths."
_SEED = "Give `seed=` to `learn` and to `make_vec_env`."
_LOGGER = 'Write logger=Logger("logs/mine"), from common.logger, which also has formats=["tensorboard"].'
_GPU = "TensorFlow takes a GPU where there is one."
_PROGRESS = "Write progress=True, which shows a progress bar."
_EVALUATING = "Write callback=EvalCallback(env, interval=1_000), from baselines_acktr.callbacks."

NAMES = {
    "ACKTR": f"{_ACKTR} and `model = acktr_discrete.learn(env=env, total_timesteps=100_000)`.",
    "acktr": f"{_ACKTR}.",
    "A2C": "Write `from baselines_acktr import a2c` and `model = a2c.learn(env=env, total_timesteps=100_000)`.",
    "TRPO": "Write `from baselines_acktr import trpo` and `model = trpo.learn(env=env, total_timesteps=100_000)`.",
    "learn": _OTHERS,
    "PPO": _OTHERS,
    "DQN": _OTHERS,
    "SAC": _OTHERS,
    "make_vec_env": _MAKE,
    "make_env": _MAKE,
    "evaluate_policy": _EVALUATE,
    "set_random_seed": _SEED,
    "set_global_seeds": _SEED,
}
OF_LEARN = {
    "verbose": f"{_PROGRESS[:-1]}, or {_LOGGER.removeprefix('Write ')}",
    "tensorboard_log": _LOGGER,
    "tb_log_name": _LOGGER,
    "progress_bar": _PROGRESS,
    "device": _GPU,
    "policy": 'Write network="mlp" or network="cnn".',
    "policy_kwargs": 'Write hidden_sizes=(64, 64) and activation="relu".',
    "kfac_clip": "Write delta=, which is half of it.",
    "eval_env": _EVALUATING,
    "eval_freq": _EVALUATING,
    "n_envs": "Write num_env=.",
    "reset_num_timesteps": "Leave it out: `model.learn` goes on, `learn` of a module begins a new model.",
}
OF_GOING_ON = OF_LEARN | {
    "total_timesteps": "Write `model.learn(1_000)`: so many timesteps are added to those that are done.",
}
OF_EVALUATE = {
    "n_eval_episodes": "Write episodes=.",
    "deterministic": "Write greedy=.",
    "return_episode_rewards": "Leave it out: the scores and lengths of all games are returned.",
    "reward_threshold": "Look at `scores.mean()` of what is returned.",
    "callback": "Leave it out: the scores and lengths of all games are returned.",
    "render": "Leave it out: `acktr --load_path=PATH --play` shows games.",
    "warn": "Leave it out: every environment's own scores are counted.",
}
OF_EVAL_CALLBACK = {
    "eval_env": "Write env=.",
    "eval_freq": "Write interval=, which counts the timesteps of all environments.",
    "n_eval_episodes": "Write episodes=.",
    "deterministic": "Write greedy=.",
    "best_model_save_path": "Write folder=, where best.model is written.",
    "log_path": "Write folder=, where evaluations.npz is written.",
}
OF_CHECKPOINT_CALLBACK = {
    "save_freq": "Write interval=, which counts the timesteps of all environments.",
    "save_path": "Write folder=.",
}
