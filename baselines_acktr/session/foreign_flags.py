"""Flags of other programs that have no equal here, each with a sentence on what to do instead.

Those that only have another name here are `config.SYNONYMS`.
"""

from __future__ import annotations

_LOGS = "--log_format=+tensorboard writes TensorBoard files, which Weights & Biases reads"

FOREIGN_FLAGS = {
    "env_type": "It is not needed: the id in --env says enough.",
    "extra_import": "Write the module into the id: --env=module:Id.",
    "gamestate": "Games of Gym Retro are not supported.",
    "nprocs": "Several processes are started by mpirun -n N python run.py ...",
    "is_async": "Inverses are computed in the background unless --inverses=inline is given.",
    "track": f"There is no such tracking; {_LOGS}.",
    "wandb": f"There is no such tracking; {_LOGS}.",
    "config": "There are no files of flags; --load_path and --resume bring those of an earlier run.",
    "env_kwargs": "Register the environment with its arguments, gymnasium.register(..., kwargs={...}).",
    "normalize": "Learners for continuous actions always standardise their observations; others do not.",
    "device": "TensorFlow takes a GPU where there is one; CUDA_VISIBLE_DEVICES=-1 before the command hides it.",
    "eval_freq": "Scores in the log are those of training; --load_path=FILE --play plays a checkpoint.",
}
