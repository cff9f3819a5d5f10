"""Names of networks, known before TensorFlow is imported."""

from __future__ import annotations

from collections.abc import Collection

from baselines_acktr.config import HIDDEN_SIZES, RECURRENT, Config
from common.errors import UserError, closest

BUILT_IN = tuple(HIDDEN_SIZES)
# Networks of other programs -> what to do here.
_FOREIGN = {
    "MlpPolicy": "write mlp",
    "MlpLstmPolicy": "write lstm",
    "MlpLnLstmPolicy": "write lnlstm",
    "CnnPolicy": "write cnn",
    "CnnLstmPolicy": "write cnn_lstm",
    "CnnLnLstmPolicy": "write cnn_lnlstm",
    "MultiInputPolicy": "leave it out: the default takes observations of several parts",
    "conv_only": "cnn is the nearest one",
    "impala_cnn": "cnn is the nearest one; a network of your own is module:function",
    "cnn_small": "write --network=cnn --conv_filters=8,16 --conv_kernels=8,4 --conv_strides=4,2 --hidden_sizes=128",
}


def require_memory(name: str, config_classes: Collection[type[Config]], algorithm: str) -> None:
    """Raises UserError for a recurrent network where none of some learners has one.

    Args:
      name: of the network.
      config_classes: those of the learners' hyperparameters.
      algorithm: what the learners are called.
    """
    if name in RECURRENT and not any(one.has_memory for one in config_classes):
        raise UserError(f"--network={name}: {algorithm} has no recurrent networks here; acktr and a2c have them")


def unknown_network(name: str, known: Collection[str]) -> UserError:
    """The error of a name that no network has, with what to write instead.

    Args:
      name: what was given.
      known: the names that are registered.
    """
    allowed = f"must be one of {', '.join(sorted(known))} or module:function"
    hint = f"; {_FOREIGN[name]}" if name in _FOREIGN else f".{closest(name, known)}"
    return UserError(f"--network={name}: unknown network; {allowed}{hint}")
