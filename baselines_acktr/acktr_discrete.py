"""ACKTR for discrete actions (Wu et al. 2017): one shared network, one K-FAC optimizer, one joint Fisher."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import keras
import numpy as np
import tensorflow as tf

from baselines_acktr import checkpoint
from baselines_acktr.config import ARCHITECTURE, AcktrDiscreteConfig
from baselines_acktr.kfac import FORMS, INVERTERS, Kfac, Objective, UnsupportedLayerError, gaussian_log_likelihood
from baselines_acktr.losses import policy_gradient_loss, value_loss
from baselines_acktr.networks import default_network
from baselines_acktr.policies import make_actor_critic
from baselines_acktr.rollouts import Rollout
from baselines_acktr.training import Run, require_same_step, train
from common.distributions import make_distribution
from common.errors import UserError, closest
from common.logger import Logger


class Model:
    """Policy, value function and their K-FAC optimizer.

    Args:
      observation_space: of one environment; a Box.
      action_space: of one environment; Discrete or MultiDiscrete.
      network: a name that `networks.find_network` knows.
      config: hyperparameters.
      seed: of the initial weights and of every random draw.
      env_id: id of the environment, written to checkpoints and compared with theirs.

    Raises:
      UserError: if the spaces or the network are not supported.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        network: str,
        config: AcktrDiscreteConfig,
        seed: int = 0,
        env_id: str | None = None,
    ) -> None:
        self.env_id, self.seed = env_id, seed
        self.observation_space, self.action_space = observation_space, action_space
        self.network_name, self.config = network, config
        self.network = make_actor_critic(observation_space, action_space, network, config, seed)
        self.optimizer = _make_optimizer(self.network, config, seed)
        self.sampler = tf.random.Generator.from_seed(seed + 1)
        self.timesteps, self.updates = 0, 0

    # -- acting -------------------------------------------------------------------------------------------------------

    def step(
        self, observations: np.ndarray, deterministic: bool = False
    ) -> tuple[np.ndarray, np.ndarray, None, np.ndarray]:
        """Chooses actions.

        Args:
          observations: [N, ...].
          deterministic: the most likely action instead of a sampled one.

        Returns:
          actions [N, ...], values [N], None (the recurrent state of OpenAI Baselines' models) and -log pi(a|s) [N].
        """
        actions, values, neglogps = self._act(observations, deterministic)
        return actions.numpy(), values.numpy(), None, neglogps.numpy()

    def value(self, observations: np.ndarray) -> np.ndarray:
        """V of observations [N, ...], [N]."""
        return self._value(observations).numpy()

    @tf.function(reduce_retracing=True)
    def _act(self, observations: tf.Tensor, deterministic: bool):
        parameters, values = self.network(observations)
        pi = make_distribution(self.action_space, parameters)
        actions = pi.mode() if deterministic else pi.sample(self.sampler)
        return actions, values, -pi.log_prob(actions)

    @tf.function(reduce_retracing=True)
    def _value(self, observations: tf.Tensor) -> tf.Tensor:
        return self.network(observations)[1]

    # -- learning -----------------------------------------------------------------------------------------------------

    def update(self, rollout: Rollout, lr: float, measure_kl: bool = False) -> dict[str, tf.Tensor]:
        """One K-FAC update; returns scalars for the log.

        Args:
          rollout: of this model's own actions.
          lr: eta_max of this update.
          measure_kl: also return `kl`, the exact mean KL(old || new) of the policy on the rollout's first step, and
            `quadratic_kl`, that of policy and value together by the quadratic model; nats.
        """
        self.optimizer.learning_rate.assign(lr)
        before = self._parameters(rollout.observations[0]) if measure_kl else None
        metrics = self.optimizer.minimize(self._objective, *self._batch(rollout))
        if measure_kl:
            metrics["kl"] = self._mean_kl(before, self._parameters(rollout.observations[0]))
            metrics["quadratic_kl"] = self.optimizer.last_step_model_kl()
        return metrics

    def counters(self) -> dict[str, int]:
        """Age of the inverses and how often K-FAC left something out."""
        return self.optimizer.counters

    def _batch(self, rollout: Rollout) -> tuple[np.ndarray, ...]:
        """Rows [B, ...] of observations, actions, returns and advantages, shuffled: the Fisher takes the first ones."""
        rows = rollout.returns.size
        order = np.random.default_rng([self.seed, self.updates]).permutation(rows)
        arrays = rollout.observations, rollout.actions, rollout.returns, rollout.returns - rollout.values
        return tuple(np.take(array.reshape(rows, *array.shape[2:]), order, axis=0) for array in arrays)

    def _objective(self, observations, actions, returns, advantages) -> Objective:
        """The A2C loss, and the log-likelihood of actions and values sampled from the model (section 3.1)."""
        parts = self._forward_in_parts(observations)
        parameters, values = (tf.concat(tensors, axis=0) for tensors in zip(*parts, strict=True))
        pi = make_distribution(self.action_space, parameters)
        policy_loss = policy_gradient_loss(pi.log_prob(actions), advantages)
        critic_loss = value_loss(values, returns)
        entropy = tf.reduce_mean(pi.entropy())
        loss = policy_loss - self.config.ent_coef * entropy + self.config.vf_coef * critic_loss
        metrics = {"policy_loss": policy_loss, "value_loss": critic_loss, "policy_entropy": entropy}
        return Objective(loss, self._sampled_log_likelihood(*parts[0]), metrics)

    def _forward_in_parts(self, observations: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """The network's outputs on the Fisher's rows, and on the rest: one forward pass over the batch in all."""
        rows = self.config.fisher_rows
        if not 0 < rows < observations.shape[0]:
            return [self.network(observations)]
        return [self.network(observations[:rows]), self.network(observations[rows:])]

    def _sampled_log_likelihood(self, parameters: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
        """log p(a, v|s) = log pi(a|s) + log p(v|s) of independently sampled a and v, summed over rows."""
        generator = self.optimizer.generator
        pi = make_distribution(self.action_space, parameters)
        policy_part = tf.reduce_sum(pi.log_prob(pi.sample(generator)))
        sigma = self.config.vf_fisher_coef**-0.5
        return policy_part + gaussian_log_likelihood(values, generator, sigma)

    @tf.function(reduce_retracing=True)
    def _parameters(self, observations: tf.Tensor) -> tf.Tensor:
        return self.network(observations)[0]

    @tf.function(reduce_retracing=True)
    def _mean_kl(self, old: tf.Tensor, new: tf.Tensor) -> tf.Tensor:
        old_pi, new_pi = (make_distribution(self.action_space, parameters) for parameters in (old, new))
        return tf.reduce_mean(old_pi.kl(new_pi))

    # -- state --------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, np.ndarray]:
        """Parameters, optimizer and random generators, by name, copied."""
        arrays = {f"parameters/{i}": v.value.numpy().copy() for i, v in enumerate(self.network.trainable_variables)}
        arrays |= {f"kfac/{name}": array for name, array in self.optimizer.state().items()}
        return arrays | {"sampler": self.sampler.state.numpy().copy()}

    def set_state(self, arrays: dict[str, np.ndarray]) -> None:
        """Takes back what `state` returned."""
        for i, variable in enumerate(self.network.trainable_variables):
            variable.assign(arrays[f"parameters/{i}"])
        prefix = "kfac/"
        self.optimizer.set_state({n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)})
        self.sampler.state.assign(arrays["sampler"])

    def save(self, path: str) -> None:
        """Writes a checkpoint (see `checkpoint.save`)."""
        meta = checkpoint.describe(
            env_id=self.env_id,
            observation_space=self.observation_space,
            action_space=self.action_space,
            network=self.network_name,
            config=self.config,
            counters={"timesteps": self.timesteps, "updates": self.updates, "seed": self.seed},
        )
        checkpoint.save(path, self.state(), meta)

    def load(self, path: str) -> None:
        """Takes parameters, K-FAC state, counters and random generators from a checkpoint.

        Raises:
          UserError: if the file is damaged or was trained with other spaces or another network.
        """
        arrays, meta = checkpoint.load(path)
        checkpoint.check_compatible(
            meta,
            path,
            env_id=self.env_id,
            observation_space=self.observation_space,
            action_space=self.action_space,
            network=self.network_name,
            config={name: getattr(self.config, name) for name in ARCHITECTURE},
        )
        try:
            self.set_state(arrays)
        except (KeyError, ValueError) as error:
            raise UserError(f"checkpoint {path}: does not fit this network and optimizer: {error}") from error
        counters = meta["counters"]
        self.timesteps, self.updates, self.seed = counters["timesteps"], counters["updates"], counters["seed"]

    def close(self) -> None:
        """Ends the optimizer's background thread."""
        self.optimizer.close()


def _make_optimizer(network: keras.Model, config: AcktrDiscreteConfig, seed: int) -> Kfac:
    try:
        return Kfac(
            network,
            learning_rate=config.lr,
            delta=config.delta,
            damping=config.damping,
            momentum=config.momentum,
            decay=config.stats_decay,
            inverse_interval=config.inverse_interval,
            max_sites=config.fisher_sites,
            form=FORMS[config.inverse_form](),
            inverter=INVERTERS[config.inverses](),
            seed=seed,
        )
    except UnsupportedLayerError as error:
        raise UserError(f"--network: {error}") from error


def make_config(**hyperparameters: Any) -> AcktrDiscreteConfig:
    """The config with these hyperparameters; raises UserError for an unknown name, with the closest one."""
    names = [field.name for field in dataclasses.fields(AcktrDiscreteConfig)]
    for name in hyperparameters:
        if name not in names:
            raise UserError(f"{name}: unknown hyperparameter of acktr.{closest(name, names)}")
    return AcktrDiscreteConfig(**hyperparameters)


def learn(
    network: str | None = None,
    *,
    env: gym.vector.VectorEnv,
    seed: int = 0,
    total_timesteps: int,
    logger: Logger | None = None,
    log_interval: int = 100,
    save_path: str | None = None,
    save_interval: int = 0,
    load_path: str | None = None,
    callback: Callable[[Model], bool | None] | None = None,
    **hyperparameters: Any,
) -> Model:
    """Trains a model with ACKTR.

    Args:
      network: `cnn`, `mlp`, a registered name or `module:function`; None chooses by the observation space.
      env: SAME_STEP vector environment with a discrete action space (see `common.vec_env.make_vec_env`).
      seed: of the weights and of every draw of the learner.
      total_timesteps: steps of all environments together, those of a loaded checkpoint included.
      logger: takes the numbers every `log_interval` updates (and after the first and the last).
      save_path: where to write a checkpoint every `save_interval` updates (0: never) and at the end.
      load_path: checkpoint to go on from: parameters, K-FAC state, counters, schedule and random generators.
      callback: called after each update; a true result ends the training.
      **hyperparameters: fields of `AcktrDiscreteConfig`.

    Raises:
      UserError: for a mistake in the arguments, named.
    """
    config = make_config(**hyperparameters)
    require_same_step(env)
    network = network or default_network(env.single_observation_space)
    env_id = env.spec.id if env.spec else None
    model = Model(env.single_observation_space, env.single_action_space, network, config, seed, env_id)
    if load_path:
        model.load(load_path)
    run = Run(total_timesteps, logger, log_interval, save_path, save_interval, callback)
    with contextlib.closing(model):
        train(model, env, run)
    return model
