"""A policy as one graph, from observations as the environment gives them to actions as it takes them.

What stands around the network is part of it: the filter of the observations, the choice of an action, and for
continuous actions their scaling and clipping. `Agent.predict` computes the same with NumPy around TensorFlow.
"""

from __future__ import annotations

from typing import Any, final

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.agent.filters import PartsFilter
from baselines_acktr.agent.policies import Policy
from baselines_acktr.learning.sequences import Sequences
from common.running_mean_std import ObservationFilter


class _Noise:
    """Random numbers of the runtime's own, in place of a `tf.random.Generator`.

    They are other ones each time that the model is loaded: `tf.random.uniform` would put Keras' global seed into the
    graph, and all who load it would draw the same.
    """

    @staticmethod
    def uniform(shape: tf.Tensor, minval: float, dtype: tf.DType) -> tf.Tensor:
        """Numbers in [minval, 1)."""
        return tf.maximum(tf.raw_ops.RandomUniform(shape=shape, dtype=dtype), minval)

    @staticmethod
    def normal(shape: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
        """Standard normal numbers."""
        return tf.raw_ops.RandomStandardNormal(shape=shape, dtype=dtype)


class ActingModel(keras.Model):
    """Maps observations [N, ...] of the environment to {"action": actions [N, ...]} for it.

    Attributes:
      observation: type, shape and name of the observations that it takes.
      signature: those of all that it takes.

    Args:
      policy: acts; its weights and filter as they are when the graph is made.
      observation_space: of one environment, as `make_vec_env` gives it.
      deterministic: the most likely action instead of a sampled one.
      single: no number has more than single precision, for runtimes that know no other: observations and actions of
        double precision are taken and given in single precision.
    """

    def __init__(self, policy: Policy, observation_space: Any, deterministic: bool, single: bool) -> None:
        super().__init__(name="agent", autocast=False)
        self.network: Any = policy.network
        self._policy = policy
        self._deterministic = deterministic
        self._single = single

        dtype = observation_space.dtype
        self._rounded = single and dtype == np.float64
        self.observation = keras.InputSpec(
            dtype="float32" if self._rounded else dtype.name,
            shape=(None, *observation_space.shape),
            name="observation",
        )
        self.signature = self._signature()
        self(
            keras.tree.map_structure(lambda spec: keras.Input(batch_shape=spec.shape, dtype=spec.dtype), self.signature)
        )

    def call(self, observation: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"action": self._choose(self._policy.outputs(self._seen(observation)))}

    def _signature(self) -> Any:
        """Types, shapes and names of what `call` takes."""
        return self.observation

    def _choose(self, parameters: tf.Tensor) -> tf.Tensor:
        """Actions [N, ...] for the environment, by parameters [N, P] of the policy's distribution."""
        pi = self._policy.distribution(parameters)
        noise: Any = _Noise
        actions = pi.mode() if self._deterministic else pi.sample(noise)
        return self._policy.to_env_in_graph(actions, self._single)

    def _seen(self, observations: tf.Tensor) -> tf.Tensor:
        """What the network sees of observations [N, ...], as `Policy.filtered`."""
        filter = self._policy.filter
        if not isinstance(filter, ObservationFilter | PartsFilter):
            return observations

        x = tf.cast(observations, tf.float32 if self._single else tf.float64)
        if filter.count:
            x = self._centred(x, filter.mean) / filter.std.astype(x.dtype.as_numpy_dtype)
        limit = np.asarray(filter.CLIP, x.dtype.as_numpy_dtype)
        return tf.cast(tf.minimum(tf.maximum(x, -limit), limit), tf.float32)

    def _centred(self, x: tf.Tensor, mean: np.ndarray) -> tf.Tensor:
        """Observations [N, D] less their mean [D]; in single precision less its rounded part and then the rest."""
        if not self._single:
            return x - mean

        coarse = mean.astype(np.float32)
        if self._rounded:  # as the observations are: what never varies stays exactly 0
            return x - coarse
        return (x - coarse) - (mean - coarse).astype(np.float32)


@final
class RecurrentActingModel(ActingModel):
    """Acts by a recurrent network; arguments as for `ActingModel`.

    It maps {"observation": [N, ...], "state": [N, M], "episode_start": booleans [N]} to {"action": [N, ...],
    "next_state": [N, M]}. The state is what the policy remembers: zeros before the first step, then the `next_state`
    of the step before. Where `episode_start` is true it is taken as zeros.
    """

    def call(self, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        seen = self._seen(inputs["observation"])
        step = Sequences(seen[:, None], inputs["episode_start"][:, None], inputs["state"])  # T = 1
        parameters, *_, state = self.network.unroll(step)
        return {"action": self._choose(parameters), "next_state": state}

    def _signature(self) -> dict[str, keras.InputSpec]:
        return {
            "observation": self.observation,
            "state": keras.InputSpec(self.network.compute_dtype, (None, self.network.state_size), name="state"),
            "episode_start": keras.InputSpec("bool", (None,), name="episode_start"),
        }
