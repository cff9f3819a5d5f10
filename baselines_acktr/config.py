"""Every hyperparameter of the learners: once, with its unit and its source."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from common.errors import UserError
from common.options import changed, none_for_zero, option, validate
from common.schedules import SCHEDULES, scheduled

PAPER = "Wu et al. 2017"
TRPO_PAPER = "Schulman et al. 2015"
BASELINES = "OpenAI Baselines"
TUNED = "docs/tuning.md"
CONVOLUTIONS = ("conv_filters", "conv_kernels", "conv_strides")  # each has one number for every convolution
ARCHITECTURE = (*CONVOLUTIONS, "hidden_sizes", "activation", "vf_activation", "critic", "inverse_form", "value_network")
BEFORE = {"value_network": "shared"}  # values of hyperparameters that older checkpoints do not have
FORMS = ("cholesky", "eigen")
RECURRENT = ("lstm", "lnlstm", "cnn_lstm", "cnn_lnlstm")  # networks that remember
MEMORY_UNITS = 128  # of their cells; OpenAI Baselines: nlstm
# Dense layers of the networks where none are given; in a recurrent one they come before its cell.
HIDDEN_SIZES = {
    "cnn": (512,),
    "pixels": (256,),
    "mlp": (64, 64),
    "lstm": (),
    "lnlstm": (),
    "cnn_lstm": (512,),
    "cnn_lnlstm": (512,),
}
HIDDEN_ACTIVATIONS = {name: "tanh" if name in ("mlp", "lstm", "lnlstm") else "relu" for name in HIDDEN_SIZES}
PIXEL_CONVOLUTIONS = ((32, 3, 2), (32, 3, 2))  # filters, kernel size and stride of those of `pixels`
ACTIVATIONS = ("", "relu", "tanh", "elu")
# What other libraries call a flag or hyperparameter -> what to write here, for hints.
SYNONYMS = {
    name: ours
    for ours, theirs in {
        "num_timesteps": "total_timesteps timesteps num_steps max_timesteps num_env_steps total_steps steps n frames",
        "num_env": "n_envs num_envs nenv nenvs num_workers num_processes n_env num_actors",
        "env": "env_id env_name gym_id environment game task",
        "alg": "algo algorithm agent",
        "log_path": "log_dir logdir log_folder output_dir out_dir logger f",
        "save_path": "save_dir model_path save_model output",
        "save_interval": "save_freq save_every checkpoint_freq checkpoint_interval model_save_freq",
        "load_path": "load load_model checkpoint checkpoint_path restore model trained_agent i pretrained exp_id",
        "resume": "resume_from continue continue_training restart load_last_checkpoint load_checkpoint",
        "best": "load_best",
        "config": "config_file cfg yaml_file",
        "env_kwargs": "env_args env_config make_kwargs",
        "eval_episodes": "n_eval_episodes num_eval_episodes",
        "play": "render enjoy watch eval evaluate test render_mode human visualize show",
        "greedy": "deterministic",
        "video": "capture_video record_video record save_video video_path gif",
        "network": "policy net arch",
        "hidden_sizes": "net_arch hidden_size num_hidden hidden hid",
        "lr": "learning_rate learningrate step_size",
        "lam": "gae_lambda lambda_ gae use_gae",
        "gamma": "discount discount_factor",
        "ent_coef": "entropy_coef ent_coeff entropy_weight entropy_loss_weight",
        "vf_coef": "value_coef value_loss_coef value_loss_weight vf_loss_coef",
        "delta": "target_kl trust_region_radius",
        "epsilon": "eps adam_eps rms_prop_eps rmsprop_epsilon",
        "frame_stack": "n_stack num_stack framestack",
        "nsteps, or --timesteps_per_batch with continuous actions": "n_steps batch_size batchsize num_steps_per_env",
    }.items()
    for name in theirs.split()
}


def settled_architecture(network: str | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Hyperparameters with the network's own sizes and activation in place of those that are empty.

    Args:
      network: its name. A network that is not built in has no sizes of its own: what is empty stays so.
      values: {name of a hyperparameter: its value}.
    """
    own = {"hidden_sizes": HIDDEN_SIZES.get(network or ""), "activation": HIDDEN_ACTIVATIONS.get(network or "")}
    return {name: value or own.get(name) or value for name, value in values.items()}


@dataclasses.dataclass(frozen=True)
class Config:
    """Hyperparameters that check themselves against the limits of their fields.

    Attributes:
      num_env: how many environments suit the learner.
      num_env_atari: how many suit it on Atari games.
      has_memory: whether the learner has recurrent networks.
    """

    num_env: ClassVar[int] = 8
    num_env_atari: ClassVar[int] = 32
    has_memory: ClassVar[bool] = False

    def __post_init__(self) -> None:
        validate(self)
        none_for_zero(self)

    @classmethod
    def default_num_env(cls, atari: bool) -> int:
        """How many environments there are unless a number is given."""
        return cls.num_env_atari if atari else cls.num_env


@dataclasses.dataclass(frozen=True)
class KfacConfig(Config):
    """How K-FAC estimates and inverts the Fisher (Wu et al. 2017, section 3)."""

    damping: float = option(0.01, "Tikhonov damping lambda of the Fisher", source=BASELINES, above=0)
    momentum: float = option(
        0.0,
        "heavy-ball momentum, after the trust region",
        source=PAPER + ", section 3.2; " + BASELINES + ": 0.9",
        minimum=0,
        below=1,
    )
    stats_decay: float = option(0.99, "decay of the factors' running averages", source=BASELINES, minimum=0, below=1)
    fisher_rows: int | None = option(
        64, "rows of the batch that the Fisher is estimated from", unit="rows", minimum=0, zero="all"
    )
    fisher_sites: int | None = option(
        64,
        "sites of each convolution's output that the Fisher is estimated from",
        unit="sites",
        minimum=0,
        zero="all",
    )
    cg_iters: int = option(
        2,
        "iterations of conjugate gradient on the exact Fisher of fisher_rows; K-FAC's inverse is the preconditioner",
        source=TUNED,
        minimum=1,
    )
    cg_blend: float = option(
        0.5,
        "weight of K-FAC's own curvature beside that exact Fisher, which is estimated from few rows",
        source=TUNED,
        minimum=0,
        below=1,
    )
    inverses: str = option(
        "background",
        "where factors are inverted: on a queue thread, or inline (bit-reproducible)",
        choices=("background", "inline"),
    )
    inverse_form: str = option(
        "cholesky",
        "how factors are damped: cholesky damps each of the two, eigen their product in its eigenbasis",
        source=PAPER + "; " + BASELINES,
        choices=FORMS,
    )
    eigen_rank: int | None = option(
        256,
        "largest eigenvalues that eigen computes of factors at least 4 times as large; the others share their mean",
        minimum=0,
        zero="all",
    )
    factor_interval: int = option(
        1, "updates from one estimate of the factors to the next; the first all make one", unit="updates", minimum=1
    )
    inverse_interval: int = option(
        10, "updates from one refresh of the inverses to the next; fewer at the start", unit="updates", minimum=1
    )


@dataclasses.dataclass(frozen=True)
class ScheduleConfig(Config):
    """A rate that falls over the run."""

    lr: float = option(
        7e-4, "rate at the start of the run", source=BASELINES, above=0, hint="--lrschedule says how it falls"
    )
    lrschedule: str = option(
        "linear",
        "how the rate falls over the run",
        source=BASELINES,
        choices=tuple(SCHEDULES),
    )
    schedule_timesteps: int = option(
        0, "length of the run that the rate falls over; 0: num_timesteps", unit="timesteps", minimum=0
    )

    def lr_at(self, timesteps: int, total_timesteps: int) -> float:
        """The rate after so many timesteps of a run of `total_timesteps`."""
        return scheduled(self.lrschedule, self.lr, timesteps, self.schedule_timesteps or total_timesteps)


@dataclasses.dataclass(frozen=True)
class RmspropConfig(ScheduleConfig):
    """RMSProp as in Mnih et al. 2016 and OpenAI Baselines."""

    alpha: float = option(
        0.99, "decay of the running average of squared gradients", source=BASELINES, minimum=0, below=1
    )
    epsilon: float = option(1e-5, "added to that average, inside the square root", source=BASELINES, above=0)
    max_grad_norm: float = option(
        0.5, "largest norm of a gradient; longer ones are scaled down to it", source=BASELINES, above=0
    )
    first_rate: float = option(
        0.0,
        "rate of the first steps: the average of squared gradients starts at (lr / first_rate)^2, at most 1; 0: at 1",
        source=TUNED + "; " + BASELINES + ": 0",
        minimum=0,
    )


@dataclasses.dataclass(frozen=True)
class CnnConfig(Config):
    """The convolutions of the cnn."""

    conv_filters: tuple[int, ...] = option((32, 64, 32), "filters of the cnn's convolutions", source=PAPER, minimum=1)
    conv_kernels: tuple[int, ...] = option((8, 4, 3), "kernel sizes of the cnn", unit="pixels", source=PAPER, minimum=1)
    conv_strides: tuple[int, ...] = option((4, 2, 1), "strides of the cnn", unit="pixels", source=PAPER, minimum=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        lengths = [len(getattr(self, name)) for name in CONVOLUTIONS]
        if len(set(lengths)) > 1:
            given = ", ".join(f"{length} of {name}" for name, length in zip(CONVOLUTIONS, lengths, strict=True))
            raise UserError(f"--conv_filters, --conv_kernels, --conv_strides: must be of the same length, not {given}")


@dataclasses.dataclass(frozen=True)
class SharedConfig(ScheduleConfig, CnnConfig):
    """Learners whose policy and value function are learned by one loss."""

    has_memory: ClassVar[bool] = True

    nsteps: int = option(20, "steps of every environment in a batch", unit="timesteps", source=PAPER, minimum=1)
    gamma: float = option(0.99, "discount", source=PAPER, minimum=0, maximum=1)
    lam: float = option(
        1.0,
        "lambda of generalized advantage estimation; 1: k-step returns, which the critic learns in any case",
        source=PAPER,
        minimum=0,
        maximum=1,
    )
    ent_coef: float = option(0.01, "weight of the entropy bonus", source=PAPER, minimum=0)
    hidden_sizes: tuple[int, ...] = option(
        (), "sizes of the dense layers; by default 512 for cnn, 64,64 for mlp", unit="units", source=PAPER, minimum=1
    )
    activation: str = option(
        "", "activation of the hidden layers; by default relu for cnn, tanh for mlp", source=PAPER, choices=ACTIVATIONS
    )

    def batch_size(self, num_env: int) -> int:
        """Timesteps in a batch of so many environments."""
        return self.nsteps * num_env


@dataclasses.dataclass(frozen=True)
class DisjointConfig(CnnConfig):
    """Learners with a network each for policy and value function."""

    num_env: ClassVar[int] = 20

    timesteps_per_batch: int = option(
        2500,
        "timesteps in a batch, of all environments of all MPI ranks together",
        unit="timesteps",
        source=PAPER,
        minimum=1,
    )
    gamma: float = option(0.99, "discount", source=BASELINES, minimum=0, maximum=1)
    lam: float = option(0.97, "lambda of generalized advantage estimation", source=BASELINES, minimum=0, maximum=1)
    ent_coef: float = option(0.0, "weight of the entropy bonus", source=BASELINES, minimum=0)
    weight_decay: float = option(0.0, "weight of 0.5 |W|^2 in both losses", source=TUNED, minimum=0)
    vf_iters: int = option(25, "updates of the critic for each update of the policy", source=BASELINES, minimum=1)
    vf_rows: int | None = option(
        None,
        "rows of the batch that an update of the critic is computed from; each pass over it is in a new order",
        unit="rows",
        minimum=0,
        zero="all",
    )
    vf_lam: float = option(
        1.0, "lambda of the critic's targets; 1: k-step returns", source=BASELINES, minimum=0, maximum=1
    )
    vf_stepsize: float = option(1e-3, "rate of Adam, where that trains the critic", source=BASELINES, above=0)
    hidden_sizes: tuple[int, ...] = option(
        (),
        "sizes of each network's dense layers; by default 256 for pixels, 512 for cnn, 64,64 for mlp",
        unit="units",
        source=PAPER,
        minimum=1,
    )
    activation: str = option(
        "",
        "activation of the policy's hidden layers; by default relu for pixels and cnn, tanh for mlp",
        source=PAPER,
        choices=ACTIVATIONS,
    )
    vf_activation: str = option(
        "elu", "activation of the critic's hidden layers", source=PAPER, choices=ACTIVATIONS[1:]
    )

    def nsteps(self, num_env: int) -> int:
        """Steps of each of so many environments in a batch."""
        return math.ceil(self.timesteps_per_batch / num_env)

    def batch_size(self, num_env: int) -> int:
        """Timesteps in a batch of so many environments; that of a single one may be longer, up to an episode's end."""
        return self.nsteps(num_env) * num_env


@dataclasses.dataclass(frozen=True)
class GaussianConfig(DisjointConfig):
    """Learners of continuous actions with a network each for policy and value function."""

    log_std_init: float | None = option(
        None,
        "log standard deviation of the policy at first, for actions in [-1, 1]; "
        "by default log 0.5, and log 1 / sqrt(n) for actions of n > 4 numbers",
        source=TUNED,
    )

    def first_log_std(self, size: int) -> float:
        """Log standard deviation of the policy before its first update, for actions of `size` numbers.

        By default the expected squared length of the noise is at most 1: control costs are made of it.
        """
        if self.log_std_init is not None:
            return self.log_std_init
        return math.log(min(0.5, 1 / math.sqrt(size)))


@dataclasses.dataclass(frozen=True)
class AcktrDiscreteConfig(SharedConfig, KfacConfig):
    """Hyperparameters of `acktr_discrete`, checked when it is made (Wu et al. 2017, sections 3 to 5).

    The `source` of each says where its default comes from: the paper, its code, or curves of our own.
    """

    lr: float = changed(
        ScheduleConfig,
        "lr",
        1.5,
        source=TUNED,
        help="largest step eta_max at the start of the run; 1 is the whole natural gradient of the policy",
    )
    delta: float = option(0.01, "radius of the trust region", unit="nats of KL", source=TUNED, above=0)
    ent_coef: float = changed(SharedConfig, "ent_coef", 0.002, source=TUNED + "; " + PAPER + ": 0.01")
    vf_coef: float = option(
        0.3,
        "weight of the value loss; a step of 1 / vf_coef is the whole Gauss-Newton step of the critic",
        source=TUNED,
        above=0,
    )
    lam: float = changed(SharedConfig, "lam", 0.95, source=TUNED + "; " + PAPER + ": 1")
    damping: float = changed(KfacConfig, "damping", 5e-4, source=TUNED)
    fisher_rows: int | None = changed(KfacConfig, "fisher_rows", 128, source=TUNED)
    fisher_share: float = option(
        1.0,
        "largest part of a batch that fisher_rows may be; up to a third, a step is measured on rows that it was not "
        "fitted to; 0.33 for images",
        above=0,
        maximum=1,
    )
    fisher_sites: int | None = changed(KfacConfig, "fisher_sites", 32, source=TUNED)
    factor_interval: int = changed(KfacConfig, "factor_interval", 2, source=TUNED)
    cg_iters: int = changed(KfacConfig, "cg_iters", 3, source=TUNED)
    inverse_form: str = changed(KfacConfig, "inverse_form", "eigen", source=TUNED + "; " + PAPER + ": cholesky")
    eigen_rank: int | None = changed(KfacConfig, "eigen_rank", 128, source=TUNED)
    vf_fisher_coef: float = option(
        1.0, "weight of the critic's Fisher; 1 is a Gaussian with sigma = 1", source=PAPER + ", section 3.1", above=0
    )
    vf_kl_coef: float = option(
        0.25, "weight of the critic's KL in the trust region; 1 counts it like the policy's", source=TUNED, minimum=0
    )


@dataclasses.dataclass(frozen=True)
class AcktrContConfig(GaussianConfig, KfacConfig):
    """Hyperparameters of `acktr_cont` (Wu et al. 2017, section 5 and appendix A)."""

    has_memory: ClassVar[bool] = True

    gamma: float = changed(DisjointConfig, "gamma", 0.995, source=TUNED)
    lam: float = changed(DisjointConfig, "lam", 0.95, source=TUNED + "; " + BASELINES + ": 0.97")
    lr: float = option(1.0, "largest step eta_max of the policy at the start of the run", source=TUNED, above=0)
    desired_kl: float | None = option(
        None,
        "KL of a policy update that lr is adapted to; off leaves lr as it is",
        unit="nats",
        source=TUNED + "; " + BASELINES + ": 0.002",
        minimum=0,
        zero="off",
    )
    delta: float = option(0.02, "radius of the policy's trust region", unit="nats of KL", source=TUNED, above=0)
    klschedule: str = option(
        "linear", "how desired_kl and delta fall over the run", source=TUNED, choices=tuple(SCHEDULES)
    )
    stats_decay: float = changed(KfacConfig, "stats_decay", 0.95, source=TUNED)
    fisher_rows: int | None = changed(KfacConfig, "fisher_rows", None)
    inverse_interval: int = changed(KfacConfig, "inverse_interval", 1)
    trust_region: str = option(
        "exact",
        "what measures a step of the policy: exact is the batch's own Fisher, kfac is K-FAC's approximation",
        source=TUNED + "; " + PAPER + ", section 3.2: kfac",
        choices=("kfac", "exact"),
    )
    critic: str = option(
        "gauss-newton",
        "metric of the critic: gauss-newton has sigma = 1, adaptive takes sigma from its error, euclidean is Adam",
        source=PAPER + ", sections 3.1, 5.3 and appendix D",
        choices=("gauss-newton", "adaptive", "euclidean"),
    )
    vf_rows: int | None = changed(DisjointConfig, "vf_rows", 500, source=TUNED)
    vf_lr: float = option(0.5, "largest step eta_max of the critic", source=TUNED, above=0)
    vf_fisher_rows: int | None = option(
        None,
        "rows of the batch that the critic's Fisher is estimated from, once for all updates on the batch",
        unit="rows",
        minimum=0,
        zero="all",
    )
    vf_delta: float = option(0.15, "radius of the critic's trust region", unit="nats of KL", source=BASELINES, above=0)
    vf_damping: float = option(1.0, "Tikhonov damping of the critic", source=TUNED, above=0)
    vf_stats_decay: float = option(
        0.3,
        "decay of the critic's running averages from one batch to the next",
        source=BASELINES + ": 0.95 for each of 25 updates",
        minimum=0,
        below=1,
    )


@dataclasses.dataclass(frozen=True)
class A2cDiscreteConfig(SharedConfig, RmspropConfig):
    """Hyperparameters of `a2c` with discrete actions (Wu et al. 2017, section 5.1; Mnih et al. 2016)."""

    num_env_atari: ClassVar[int] = 16

    nsteps: int = changed(SharedConfig, "nsteps", 5, source=PAPER)
    vf_coef: float = option(0.5, "weight of the value loss 0.5 (R - V)^2", source=BASELINES, minimum=0)
    conv_filters: tuple[int, ...] = changed(CnnConfig, "conv_filters", (32, 64, 64), source=PAPER)
    value_network: str = option(
        "shared",
        "network of the critic: shared is the policy's, all but the head; copy is one of its own that is made alike",
        source=PAPER + "; copy: " + BASELINES,
        choices=("shared", "copy"),
    )


@dataclasses.dataclass(frozen=True)
class A2cContConfig(GaussianConfig, RmspropConfig):
    """Hyperparameters of `a2c` with continuous actions: the networks of `acktr_cont`, one step for each small batch."""

    has_memory: ClassVar[bool] = True

    lr: float = changed(ScheduleConfig, "lr", 0.002, source=TUNED)
    timesteps_per_batch: int = changed(
        DisjointConfig, "timesteps_per_batch", 160, source=TUNED + "; " + PAPER + ": 2500"
    )
    vf_iters: int = changed(DisjointConfig, "vf_iters", 2, source=TUNED)


@dataclasses.dataclass(frozen=True)
class TrpoConfig(DisjointConfig):
    """Hyperparameters of `trpo` (Schulman et al. 2015, appendices C and E), those of MuJoCo tasks."""

    timesteps_per_batch: int = changed(
        DisjointConfig, "timesteps_per_batch", 2500, source=TUNED + "; " + PAPER + ": 25000"
    )
    lam: float = changed(DisjointConfig, "lam", 0.98, source=BASELINES)
    weight_decay: float = changed(DisjointConfig, "weight_decay", 0.0, help="weight of 0.5 |W|^2 in the critic's loss")
    max_kl: float = option(
        0.01, "most that a step may change the policy, mean KL(old || new)", unit="nats", source=TRPO_PAPER, above=0
    )
    damping: float = option(0.1, "multiple of the identity added to the Fisher", source=BASELINES, above=0)
    cg_iters: int = option(10, "iterations of conjugate gradient", source=TRPO_PAPER, minimum=1)
    fisher_fraction: float = option(
        0.2, "part of the batch, drawn at random, for Fisher-vector products", source=BASELINES, above=0, maximum=1
    )
    vf_iters: int = changed(DisjointConfig, "vf_iters", 100)
    vf_rows: int | None = changed(DisjointConfig, "vf_rows", 250)
    conv_filters: tuple[int, ...] = changed(CnnConfig, "conv_filters", (8, 16), source=BASELINES)
    conv_kernels: tuple[int, ...] = changed(CnnConfig, "conv_kernels", (8, 4), source=BASELINES)
    conv_strides: tuple[int, ...] = changed(CnnConfig, "conv_strides", (4, 2), source=BASELINES)


@dataclasses.dataclass(frozen=True)
class TrpoContConfig(TrpoConfig, GaussianConfig):
    """Hyperparameters of `trpo` with continuous actions."""

    gamma: float = changed(DisjointConfig, "gamma", 0.995, source=TUNED)


@dataclasses.dataclass(frozen=True)
class TrpoDiscreteConfig(TrpoConfig):
    """Hyperparameters of `trpo` with discrete actions: those of Atari games (Wu et al. 2017, section 5.1)."""

    num_env: ClassVar[int] = 8
    num_env_atari: ClassVar[int] = 8

    timesteps_per_batch: int = changed(TrpoConfig, "timesteps_per_batch", 512, source=PAPER)
    lam: float = changed(TrpoConfig, "lam", 1.0, source=BASELINES)
    max_kl: float = changed(TrpoConfig, "max_kl", 0.001, source=BASELINES)
    damping: float = changed(TrpoConfig, "damping", 1e-3, source=BASELINES)
    gamma: float = changed(TrpoConfig, "gamma", 0.98, source=BASELINES)
    vf_stepsize: float = changed(TrpoConfig, "vf_stepsize", 1e-4, source=BASELINES)
    vf_iters: int = changed(TrpoConfig, "vf_iters", 24, source=BASELINES)
    vf_rows: int | None = changed(TrpoConfig, "vf_rows", 64, source=BASELINES)
    vf_activation: str = changed(TrpoConfig, "vf_activation", "relu", source=BASELINES)
