"""Flags of other programs that have no equal here, each with a sentence on what to do instead.

Those that only have another name here are `config.SYNONYMS`.
"""

from __future__ import annotations

_ON_POLICY = "The learners here are on-policy: there is no replay buffer, and each batch is used once."
_LENGTH = "--num_timesteps says how long to train; each batch is used once."
_NOT_PPO = "It belongs to PPO: here --delta (acktr) or --max_kl (trpo) says how far an update may go."
_GPU = "TensorFlow takes a GPU where there is one; CUDA_VISIBLE_DEVICES=-1 before the command hides it."
_TUNING = "There is no search for hyperparameters: start run.py from a program that has one, such as Optuna."
_SCHEDULE = "Rates fall linearly by default; --lrschedule=constant keeps them."
_RETRO = "Games of Gym Retro are not supported."
_ID = "It is not needed: the id in --env says enough."
_SEVERAL = "Several processes are started by mpirun -n N python run.py ..."
_MODULE = "Write the module into the id: --env=module:Id."
_CLIPPED = "Rewards of Atari games are clipped to their sign, as in Baselines; others are not."
_STICKY = "ALE/Pong-v5 and its like have sticky actions, PongNoFrameskip-v4 and its like have none."
_MEMORY = "--network=lstm remembers, and for images --network=cnn_lstm does."
_SIZES = "--hidden_sizes=64,64 has a number for each layer; --activation is what follows them."
_ADVANTAGES = "Advantages are always brought to one scale, by a way that belongs to the algorithm."
_ENDS = "A run ends after --num_timesteps; in Python the callback StopAtReward ends it at a score."
_SHOWN = "--log_format=stdout,csv and --log_interval say what is shown."
_AGENTS = "--load_path=zoo: lists the agents that come with it."
_TRAINS = "Training is what it does unless --play is given: leave the word out."
_STANDARDISED = "Learners for continuous actions always standardise their observations; others do not."

FOREIGN_FLAGS = {
    # OpenAI Baselines
    "env_type": _ID,
    "gamestate": _RETRO,
    "is_async": "Inverses are computed in the background unless --inverses=inline is given.",
    "nprocs": _SEVERAL,
    "mpi": _SEVERAL,
    "extra_import": _MODULE,
    "layer_norm": "--network=lnlstm and cnn_lnlstm have it; a network of your own is --network=module:function.",
    "num_layers": _SIZES,
    "nlstm": "Recurrent networks remember 128 numbers; one of your own is --network=module:function.",
    "kfac_update": "--inverse_interval says how often inverses are refreshed.",
    "cold_iter": "There is no cold phase: the first update is one of K-FAC, too.",
    "lr_schedule": _SCHEDULE,
    "anneal_lr": _SCHEDULE,
    "linear_schedule": _SCHEDULE,
    # Stable-Baselines3 and its Zoo
    "n_epochs": _NOT_PPO,
    "update_epochs": _NOT_PPO,
    "noptepochs": _NOT_PPO,
    "nminibatches": _NOT_PPO,
    "num_minibatches": _NOT_PPO,
    "clip_range": _NOT_PPO,
    "clip_coef": _NOT_PPO,
    "cliprange": _NOT_PPO,
    "buffer_size": _ON_POLICY,
    "replay_buffer_size": _ON_POLICY,
    "learning_starts": _ON_POLICY,
    "train_freq": _ON_POLICY,
    "gradient_steps": _ON_POLICY,
    "epochs": _LENGTH,
    "iterations": _LENGTH,
    "num_iterations": _LENGTH,
    "n_iters": _LENGTH,
    "num_updates": _LENGTH,
    "episodes": _LENGTH,
    "num_episodes": _LENGTH,
    "max_episodes": _LENGTH,
    "clip_vloss": _NOT_PPO,
    "clip_range_vf": _NOT_PPO,
    "tau": _ON_POLICY,
    "exploration_fraction": _ON_POLICY,
    "target_update_interval": _ON_POLICY,
    "normalize": _STANDARDISED,
    "normalize_env": _STANDARDISED,
    "norm_obs": _STANDARDISED,
    "norm_reward": "Rewards are not scaled by what has been seen; --reward_scale multiplies them by a constant.",
    "normalize_advantage": _ADVANTAGES,
    "norm_adv": _ADVANTAGES,
    "policy_kwargs": _SIZES,
    "n_layers": _SIZES,
    "lstm": _MEMORY,
    "recurrent": _MEMORY,
    "use_lstm": _MEMORY,
    "use_rnn": _MEMORY,
    "stochastic": "Actions are sampled unless --greedy is given.",
    "gym_packages": _MODULE,
    "reward_threshold": _ENDS,
    "stop_reward": _ENDS,
    "target_reward": _ENDS,
    "early_stopping": _ENDS,
    "max_episode_steps": "It belongs to the environment: gymnasium.register(..., max_episode_steps=N).",
    "use_sde": "There is no state-dependent exploration; --log_std_init sets the first noise.",
    "use_rms_prop": "a2c has RMSProp, acktr K-FAC; there is no other optimizer to choose.",
    "optimizer": "a2c has RMSProp, acktr K-FAC; there is no other optimizer to choose.",
    "vec_env": "--env_backend says how environments run: native, subproc or sync.",
    "vec_env_type": "--env_backend says how environments run: native, subproc or sync.",
    "env_wrapper": "Register the environment with its wrappers, gymnasium.register(..., additional_wrappers=...).",
    "conf_file": "--config=FILE takes a YAML file of flags.",
    "conf": "--config=FILE takes a YAML file of flags.",
    "params": "Each hyperparameter is a flag of its own, such as --lr=0.5; --config=FILE takes a file of them.",
    "hyperparams": "Each hyperparameter is a flag of its own, such as --lr=0.5; --config=FILE takes a file of them.",
    "optimize_hyperparameters": _TUNING,
    "optimize": _TUNING,
    "n_trials": _TUNING,
    "n_startup_trials": _TUNING,
    "sampler": _TUNING,
    "pruner": _TUNING,
    "study_name": _TUNING,
    "storage": _TUNING,
    "progress": "On a terminal there is always a progress bar.",
    "progress_bar": "On a terminal there is always a progress bar.",
    "P": "On a terminal there is always a progress bar.",
    "verbose": _SHOWN,
    "v": _SHOWN,
    "quiet": _SHOWN,
    "q": _SHOWN,
    "debug": _SHOWN,
    "log_level": _SHOWN,
    "eval_freq": "It is --eval_interval=TIMESTEPS here, with --eval_episodes.",
    "n_eval_envs": "--eval_episodes says how many games are played; as many at once as --num_env.",
    "uuid": "A log folder that --log_path does not name has a name of its own.",
    # CleanRL and trackers
    "track": "--log_format=+wandb writes to Weights & Biases.",
    "wandb": "--log_format=+wandb writes to Weights & Biases.",
    "wandb_project_name": "--log_format=+wandb takes the variable WANDB_PROJECT.",
    "wandb_project": "--log_format=+wandb takes the variable WANDB_PROJECT.",
    "wandb_entity": "--log_format=+wandb takes the variable WANDB_ENTITY.",
    "tensorboard_log": "--log_format=+tensorboard writes TensorBoard files into the folder of --log_path.",
    "tensorboard": "--log_format=+tensorboard writes TensorBoard files.",
    "tb": "--log_format=+tensorboard writes TensorBoard files.",
    "mlflow": "MLflow is not supported; --log_format=+tensorboard,+wandb writes for others.",
    "exp_name": "--log_path names the folder of the run.",
    "run_name": "--log_path names the folder of the run.",
    "torch_deterministic": "--inverses=inline makes a run reproducible to the bit, with the same --seed.",
    "deterministic_torch": "--inverses=inline makes a run reproducible to the bit, with the same --seed.",
    "upload_model": "Nothing is uploaded; --save_path=FILE writes the model.",
    "push_to_hub": "Nothing is uploaded; --save_path=FILE writes the model.",
    "hf_entity": "Nothing is uploaded; --save_path=FILE writes the model.",
    # games
    "atari": _ID,
    "mujoco": _ID,
    "frame_skip": "Each action is repeated for four frames of an Atari game, as in Baselines.",
    "frameskip": "Each action is repeated for four frames of an Atari game, as in Baselines.",
    "sticky_actions": _STICKY,
    "repeat_action_probability": _STICKY,
    "clip_rewards": _CLIPPED,
    "clip_reward": _CLIPPED,
    "reward_clip": _CLIPPED,
    "fps": "A video is as fast as its environment says.",
    # words instead of flags
    "train": _TRAINS,
    "mode": _TRAINS,
    "learn": _TRAINS,
    "run": _TRAINS,
    "zoo": _AGENTS,
    "list": _AGENTS,
    "list_envs": "Any environment of Gymnasium that is installed will do; gymnasium.pprint_registry() lists them.",
    # devices and frameworks
    "framework": "It runs on TensorFlow 2 alone.",
    "backend": "It runs on TensorFlow 2 alone; --env_backend says how environments run.",
    "device": _GPU,
    "cuda": _GPU,
    "gpu": _GPU,
    "no_cuda": _GPU,
    "num_gpus": "Several GPUs are used by several processes, mpirun -n N python run.py ..., one each.",
    "num_threads": "TF_NUM_INTRAOP_THREADS=N before the command sets how many threads an operation has.",
    "n_jobs": "--num_env environments run side by side; mpirun -n N starts several processes.",
}
