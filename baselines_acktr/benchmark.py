"""Speed of training, measured side by side: `python -m baselines_acktr.benchmark`.

Rounds of the whole loop with K-FAC and of the same loop with plain gradient descent take turns in one process, so that
a shared machine's drift hits both. Then a profile: where an update of the K-FAC loop spends its time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from baselines_acktr.acktr_discrete import Model
from baselines_acktr.config import AcktrDiscreteConfig
from baselines_acktr.kfac.inverses import invert_all
from baselines_acktr.kfac.taps import tap_layers
from baselines_acktr.networks import default_network
from baselines_acktr.returns import n_step_returns
from baselines_acktr.rollouts import Rollout
from common.vec_env import make_vec_env


class PlainModel(Model):
    """The same model and loss, trained by gradient descent: no Fisher, no factors, no inverses."""

    def update(self, rollout: Rollout, total_timesteps: int, report: bool = False) -> dict[str, tf.Tensor]:
        return {"loss": self._descend(*batch_of(self, rollout))}

    @tf.function
    def _descend(self, *batch) -> tf.Tensor:
        loss, gradients = loss_gradients(self, *batch)
        for variable, gradient in zip(self.network.trainable_variables, gradients, strict=True):
            variable.assign_sub(1e-4 * gradient)
        return loss


def batch_of(model: Model, rollout: Rollout) -> tuple[np.ndarray, ...]:
    """What `model` is trained on after a rollout."""
    gamma = model.config.gamma
    returns = n_step_returns(rollout.rewards, rollout.values, rollout.next_values, rollout.ended, gamma)
    return model._batch(rollout, returns)


def loss_gradients(model: Model, *batch) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """The loss and its gradients, without anything of K-FAC."""
    with tf.GradientTape() as tape:
        loss = model._objective(*batch).loss
    return loss, tape.gradient(loss, [variable.value for variable in model.network.trainable_variables])


class Loop:
    """Rollouts and updates of one model; `run` returns timesteps per second."""

    def __init__(self, model_class: type[Model], env_id: str, num_env: int, updates: int, config) -> None:
        self.env = make_vec_env(env_id, num_env, seed=0)
        spaces = self.env.single_observation_space, self.env.single_action_space
        self.model = model_class(*spaces, default_network(spaces[0]), config)
        self.runner = self.model.make_runner(self.env)
        self.timesteps, self.updates = updates * config.nsteps * num_env, updates

    def run(self) -> float:
        start = time.perf_counter()
        for _ in range(self.updates):
            self.model.update(self.runner.run(), 10**9)
        return self.timesteps / (time.perf_counter() - start)

    def close(self) -> None:
        self.model.close()
        self.env.close()


def compare(kfac: Loop, plain: Loop, rounds: int) -> None:
    """Prints timesteps per second of both loops, round by round in turns, and their ratio."""
    for loop in (kfac, plain):
        loop.run()
    pairs = np.array([(kfac.run(), plain.run()) for _ in range(rounds)])
    ratios = pairs[:, 0] / pairs[:, 1]
    for name, column in zip(("K-FAC", "plain SGD"), pairs.T, strict=True):
        print(
            f"{name:10s} median {np.median(column):7.0f} timesteps/s   min {column.min():.0f}  max {column.max():.0f}"
        )
    print(f"{'ratio':10s} median {np.median(ratios):7.3f}               min {ratios.min():.3f}  max {ratios.max():.3f}")


def seconds(*functions: Callable[[], object], repeats: int) -> list[float]:
    """Median wall-clock seconds of each function; they take turns, after two calls of each to warm up."""
    times = np.empty((repeats + 2, len(functions)))
    for row in times:
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            row[i] = time.perf_counter() - start
    return np.median(times[2:], axis=0).tolist()


def profile(loop: Loop, repeats: int = 20) -> dict[str, float]:
    """Seconds per update of each part of the K-FAC loop, each timed apart."""
    model, env, config = loop.model, loop.env, loop.model.config
    rollout = loop.runner.run()
    observations, actions = rollout.observations[0], rollout.actions[0]
    batch = tuple(tf.constant(array) for array in batch_of(model, rollout))
    optimizer = model.optimizer

    @tf.function
    def gradients(*batch):
        return loss_gradients(model, *batch)

    @tf.function
    def gradients_and_fisher(*batch):
        with tf.GradientTape(persistent=True) as tape, tap_layers(optimizer.layers) as taps:
            loss, log_likelihood, _ = model._objective(*batch)
        weights = [variable.value for variable in model.network.trainable_variables]
        fisher = tape.gradient(log_likelihood, [tap.outputs for tap in taps])
        return tape.gradient(loss, weights), [gradient for gradient in fisher if gradient is not None]

    full = optimizer._differentiator(model._objective)
    _, matrices = full(*batch)
    parts = seconds(
        lambda: env.step(actions),
        lambda: model.step(observations),
        lambda: batch_of(model, rollout),
        lambda: gradients(*batch)[0].numpy(),
        lambda: gradients_and_fisher(*batch)[0][0].numpy(),
        lambda: full(*batch)[1][0].numpy(),
        lambda: optimizer._apply(matrices)["step_length"].numpy(),
        lambda: invert_all(optimizer._snapshot(), optimizer.form, config.damping),
        repeats=repeats,
    )
    step, act, assemble, loss, fisher, statistics, apply, invert = parts
    return {
        "stepping": config.nsteps * step,
        "acting": config.nsteps * act,
        "assembling the batch": assemble,
        "loss and its gradient": loss,
        "Fisher backward pass": fisher - loss,
        "factor statistics": statistics - fisher,
        "preconditioning and step": apply,
        "inverses (background thread)": invert / config.inverse_interval,
    }


def main() -> None:
    """Parses the command line, runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="BreakoutNoFrameskip-v4")
    parser.add_argument("--num_env", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each loop")
    parser.add_argument("--updates", type=int, default=15, help="updates in a round")
    arguments = parser.parse_args()
    config = AcktrDiscreteConfig()
    kfac, plain = (Loop(c, arguments.env, arguments.num_env, arguments.updates, config) for c in (Model, PlainModel))
    batch = arguments.num_env * config.nsteps
    print(
        f"{arguments.env}, batch {batch} = {arguments.num_env} x {config.nsteps}, rounds of {arguments.updates} updates"
    )
    compare(kfac, plain, arguments.rounds)
    parts = profile(kfac)
    total = sum(parts.values())
    print(f"\npart of an update{'':14s} ms    share")
    for name, value in parts.items():
        print(f"{name:28s} {1e3 * value:6.1f}   {value / total:5.1%}")
    for loop in (kfac, plain):
        loop.close()


if __name__ == "__main__":
    main()
