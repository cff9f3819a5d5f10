"""A K-FAC optimizer for TensorFlow 2 and Keras 3; it knows nothing of reinforcement learning.

from baselines_acktr.kfac import Kfac, Objective, categorical_log_likelihood          # in a loop of your own
from baselines_acktr.kfac import Kfac, KfacModel                                    # in Keras' `fit`
"""

from baselines_acktr.kfac.batch_fisher import Divergence
from baselines_acktr.kfac.fisher import (
    bernoulli_kl,
    bernoulli_log_likelihood,
    categorical_kl,
    categorical_log_likelihood,
    gaussian_kl,
    gaussian_log_likelihood,
)
from baselines_acktr.kfac.forms import CholeskyForm, EigenForm
from baselines_acktr.kfac.inverses import INVERTERS, BackgroundInverter, InlineInverter, NoInverseError
from baselines_acktr.kfac.keras_model import KfacModel
from baselines_acktr.kfac.monitor import KfacMonitor
from baselines_acktr.kfac.objective import Objective
from baselines_acktr.kfac.optimizer import Kfac
from baselines_acktr.kfac.skips import first_not_finite
from baselines_acktr.kfac.taps import FreeVector, UnsupportedLayerError
from baselines_acktr.kfac.trust_region import step_length

__all__ = [
    "INVERTERS",
    "BackgroundInverter",
    "CholeskyForm",
    "Divergence",
    "EigenForm",
    "FreeVector",
    "InlineInverter",
    "Kfac",
    "KfacModel",
    "KfacMonitor",
    "NoInverseError",
    "Objective",
    "UnsupportedLayerError",
    "bernoulli_kl",
    "bernoulli_log_likelihood",
    "categorical_kl",
    "categorical_log_likelihood",
    "first_not_finite",
    "gaussian_kl",
    "gaussian_log_likelihood",
    "step_length",
]
