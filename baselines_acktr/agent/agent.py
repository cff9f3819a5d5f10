"""What the models of all learners share: acting, their checkpoint, their place in the training loop."""

from __future__ import annotations

import abc
import contextlib
import secrets
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Protocol, Self

import gymnasium as gym
import numpy as np

from baselines_acktr.agent import description, schema
from baselines_acktr.agent.network_names import require_memory
from baselines_acktr.agent.networks import Builder, default_network, network_name
from baselines_acktr.agent.observations import as_batch, as_rows, as_shaped
from baselines_acktr.agent.policies import Policy
from baselines_acktr.agent.recurrent_policies import nothing
from baselines_acktr.config import ARCHITECTURE, RECURRENT, Config
from baselines_acktr.foreign_names import OF_GOING_ON
from baselines_acktr.learning.recurrent_rollouts import RecurrentRunner, Remembers
from baselines_acktr.learning.rollouts import EPISODES, Rollout, Runner
from common import array_file
from common.arguments import whole_number
from common.errors import RunFailedError, UserError, brief
from common.foreign_names import answers
from common.mpi import ALONE, Communicator
from common.named_arrays import Arrays, with_prefix, without_prefix
from common.paths import given_path
from common.random_state import get_global_state, seed_global_state, set_global_state

# What arrays of another number, shape or type than those of a model raise where it takes them.
MISFITS = (KeyError, ValueError, TypeError, IndexError, OverflowError, AttributeError)


class Part(Protocol):
    """What has a state that training changes; it may also have a `close` that ends background threads."""

    def state(self) -> Arrays:
        """Everything that training changes, by name, copied."""
        ...

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned; raises KeyError or ValueError if a name is missing or a shape differs."""
        ...


class Predicts(Protocol):
    """What predicts returns."""

    def predict(self, observations: np.ndarray) -> np.ndarray:
        """Values [B] of filtered observations [B, ...]."""
        ...


class Agent(abc.ABC):
    """A policy, its value function and what trains them.

    A learner derives from it, makes the parts in its constructor, and says in `returns` what its critic learns and in
    `update` how it learns from a rollout. Acting and checkpoints follow from the parts.

    Attributes:
      algorithm: its name on the command line.
      config_class: dataclass of its hyperparameters.
      for_images, for_vectors: hyperparameters whose default is another for such observations.
      for_memory: those whose default is another for recurrent networks, whatever the observations are.
      image_network: name of the network that suits images.
      whole_episodes: whether batches of a single environment go on until an episode ends.
      longest_sequence: how many steps the gradient of a recurrent network goes back at most; None: a whole rollout.
      OWN: names of the arrays that each rank has for itself; all other arrays are the same in all ranks.
      ACTING: names of the parts that acting needs.
      policy: acts.
      value_function: predicts returns.
      remembering: acts and predicts values where the network is recurrent; else None.
      parts: all that training changes, by the prefix that its arrays have in a checkpoint. They are restored in this
        order, so a policy stands behind its weights.
      timesteps, updates: how far it is trained, timesteps of all ranks together.
      env_arguments: of `make_vec_env`, those that say what it is trained on; written to checkpoints.
      trainer: what `learn` goes on with; set by what has trained or loaded the model.
      policy_only: whether it was restored from a file of the policy alone, by which it acts but is not trained further.

    Args:
      observation_space, action_space: of one environment.
      network: a name that `networks.find_network` knows, or the function itself.
      config: hyperparameters.
      seed: of the initial weights and of every random draw.
      env_id: id of the environment, written to checkpoints and compared with theirs.
      comm: ranks that train it together, each on environments of its own.

    Raises:
      UserError: if the spaces or the network are not supported.
    """

    algorithm: ClassVar[str]
    config_class: ClassVar[type[Config]]
    for_images: ClassVar[dict[str, Any]] = {}
    for_vectors: ClassVar[dict[str, Any]] = {}
    for_memory: ClassVar[dict[str, Any]] = {}
    image_network: ClassVar[str] = "cnn"
    whole_episodes: ClassVar[bool] = False
    longest_sequence: ClassVar[int | None] = None
    OWN: ClassVar[frozenset[str]] = frozenset({"sampler", "actor/rng", "actor/sampler"})
    ACTING: ClassVar[frozenset[str]] = frozenset({"parameters", "sampler", "policy", "actor"})

    policy: Policy
    value_function: Predicts
    remembering: Remembers | None = None
    parts: dict[str, Part]

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        network: str | Builder,
        config: Any,
        seed: int = 0,
        env_id: str | None = None,
        comm: Communicator = ALONE,
    ) -> None:
        self.observation_space = observation_space
        self.action_space = action_space
        self.network_name = network_name(network)
        require_memory(self.network_name, [self.config_class], f"{self.algorithm} with such actions")
        self.config = config
        self.seed = seed
        self.env_id = env_id
        self.comm = comm

        self.env_arguments: dict[str, Any] = {}
        self.timesteps = 0
        self.updates = 0
        self.trainer: Callable[..., None] | None = None
        self.policy_only = False
        self._unrolled: int | None = None  # steps that a recurrent network has been unrolled over

    @classmethod
    def default_network(cls, observation_space: gym.Space) -> str:
        """The name of the network that suits the observations."""
        name = default_network(observation_space)
        return cls.image_network if name == "cnn" else name

    @classmethod
    def preset(cls, observation_space: gym.Space, network: str | None = None) -> dict[str, Any]:
        """Hyperparameters whose default is another for such observations, and for the network where it is known."""
        found = cls.for_images if default_network(observation_space) == "cnn" else cls.for_vectors
        return found | cls.for_memory if network in RECURRENT else found

    # -- acting -------------------------------------------------------------------------------------------------------

    def step(
        self,
        observations: np.ndarray,
        deterministic: bool = False,
        state: np.ndarray | None = None,
        episode_start: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray]:
        """Chooses actions for the environment.

        Args:
          observations: [N, ...].
          deterministic: the most likely action instead of a sampled one.
          state: what a recurrent network remembers, as the last step returned it, [N, M]; None: nothing yet.
          episode_start: where an episode starts, so that what was before is forgotten, bool [N]; None: nowhere.

        Returns:
          actions [N, ...] for the environment, values [N], the next state (None without a recurrent network) and
          -log pi(a|s) [N].

        Raises:
          UserError: the observations are of another shape, such as one alone, or are not numbers.
        """
        observations = as_rows(observations, self.observation_space)
        if self.remembering is not None:
            state = self.remembering.first_state(len(observations)) if state is None else state
            starts = np.zeros(len(observations), bool) if episode_start is None else np.asarray(episode_start, bool)
            chosen = self.remembering.act_from(state, starts, observations, deterministic)
            values = np.full_like(chosen.values, np.nan) if self._lacks_critic else chosen.values
            return self.policy.to_env(chosen.actions), values, chosen.state, chosen.neglogps

        decision = self.policy.act(observations, deterministic)
        values = self.value(observations) if decision.values is None else decision.values
        return self.policy.to_env(decision.actions), values, None, decision.neglogps

    def predict(
        self,
        observation: np.ndarray,
        state: np.ndarray | None = None,
        episode_start: Any = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The actions of `step`, in the form of Stable-Baselines3.

        Args:
          observation: one observation, or a batch [N, ...], as `make_vec_env` gives them: those of another space than a
            Box are flattened (`gymnasium.spaces.flatten`). Where images are among their parts, a dict or tuple of the
            parts, as the environment gives it, or with [N, ...] each, will do as well.
          state: what a recurrent network remembers, as the last call returned it; None: nothing yet. Other networks
            do not look at it.
          episode_start: where an episode starts, a bool or bools [N]; None: nowhere.
          deterministic: the most likely action instead of a sampled one.

        Returns:
          The action, or actions [N, ...], of `action_space`, and the next state [N, M]; None without a recurrent
          network. `make_vec_env` makes that space of the environment's own: where this is a MultiBinary or a Tuple, the
          action is a row of choices [M], which the environment takes within `common.vec_env.actions.Choices`.

        Raises:
          UserError: the observation is of another shape, or is not of finite numbers; or a recurrent network's state
            or episode_start is of another shape.
        """
        observations, alone = as_batch(observation, self.observation_space)  # [N, ...]
        if self.remembering is None:
            actions = self.policy.to_env(self.policy.act(observations, deterministic).actions)
            return (actions[0] if alone else actions), None

        first = self.remembering.first_state(len(observations))
        state = as_shaped("state", first if state is None else state, first.shape, first.dtype)
        starts = np.zeros(len(first)) if episode_start is None else episode_start
        starts = [starts] if np.isscalar(starts) else starts
        starts = as_shaped("episode_start", starts, (len(first),), np.dtype(bool))
        actions, _, following, _ = self.step(observations, deterministic, state, starts)
        return (actions[0] if alone else actions), following

    def export(self, path: str, format: str | None = None, deterministic: bool = True) -> None:
        """Writes what acts as one graph, for programs without this package; see `docs/deploy.md`.

        The graph takes a batch of observations [N, ...], as `predict` does, under the name `observation`, and gives
        what `predict` gives, actions [N, ...] for the environment, under the name `action`: the filter of the
        observations, the choice of the action, and its scaling and clipping are part of it. That of a recurrent network
        takes `state` [N, M] and `episode_start` [N], too, and gives `next_state` [N, M].

        Args:
          path: of a SavedModel's folder, or of a file that ends in .tflite or .onnx; what is there is replaced.
          format: "saved_model", "tflite" or "onnx"; by default as the path ends.
          deterministic: the most likely action; else one is drawn in every call, by the runtime's own random numbers.

        Raises:
          UserError: a format that is unknown or not installed, a path that cannot be written, or a network that the
            format cannot express. What was there is then unchanged.
        """
        from baselines_acktr.agent.export import export

        note = {
            "algorithm": self.algorithm,
            "timesteps": self.timesteps,
            "environment": {"env_id": self.env_id, **self.env_arguments},
            "observations": list(self.observation_space.shape or ()),
            "actions": str(self.action_space),
            "mode": "most likely" if deterministic else "sampled",
        }
        export(self.policy, self.observation_space, path, format, deterministic, note)

    @contextlib.contextmanager
    def apart(self, seed: int | None = None) -> Iterator[None]:
        """A block after which training goes on as if nothing had been drawn in it.

        It may act, and it may play environments that draw from the generators of the process.

        Args:
          seed: of what is drawn in it; None: the policy's draws follow from a random one.

        Raises:
          UserError: `seed` is no whole number of at least 0.
        """
        seed = None if seed is None else whole_number("seed", seed, 0)
        sampler = self.policy.sampler
        before = sampler.state()
        process = get_global_state()

        sampler.reseed(secrets.randbelow(2**31) if seed is None else seed)
        if seed is not None:
            seed_global_state(seed)
        try:
            yield
        finally:
            sampler.set_state(before)
            set_global_state(process)

    def sample(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Draws actions [N, ...], as the learner stores them; and values [N] where they come for free.

        A recurrent network remembers nothing yet.
        """
        return self.policy.sample(observations)

    def to_env(self, actions: np.ndarray) -> np.ndarray:
        """The actions [N, ...] as the environment takes them."""
        return self.policy.to_env(actions)

    def value(self, observations: np.ndarray) -> np.ndarray:
        """V of observations [B, ...], [B]; of a recurrent network where nothing is remembered yet.

        Not numbers where the model was restored from a file of the policy alone, and its critic has another network.

        Raises:
          UserError: the observations are of another shape, such as one alone, or are not numbers.
        """
        observations = as_rows(observations, self.observation_space)
        if self._lacks_critic:
            return np.full(len(observations), np.nan, np.float32)
        if self.remembering is not None:
            return self.remembering.value_from(*nothing(self.remembering, len(observations)), observations)
        return self.value_function.predict(self.policy.filtered(observations))

    @property
    def _lacks_critic(self) -> bool:
        """Whether the model was restored without the weights of its critic."""
        return self.policy_only and "vf" in self.parts

    # -- learning -----------------------------------------------------------------------------------------------------

    @answers(OF_GOING_ON)
    def learn(self, timesteps: int, **arguments: Any) -> Self:
        """Trains for so many more timesteps, from where the last training has ended, unfinished episodes included.

        Schedules follow the new length of the whole training.

        Args:
          timesteps: of all environments, beside those that are done.
          **arguments: `env`, `num_env`, `env_kwargs`, `wrappers`, `logger`, `log_interval`, `save_path`, `callback` and
            `progress`, as for the `learn` of its module. Without `env` it goes on in what it was trained in.

        Returns:
          The model itself.

        Raises:
          UserError: fewer timesteps than a batch has, an environment of other spaces, or a model that neither `learn`
            nor `load` has made.
        """
        if self.trainer is None:
            raise UserError("learn: only a model that `learn` of its module or baselines_acktr.load has made goes on")
        self.trainer(timesteps, **arguments)
        return self

    def make_runner(self, env: gym.vector.VectorEnv) -> Runner:
        """Collects this model's rollouts."""
        num_env = env.num_envs * self.comm.size
        nsteps = self.config.batch_size(num_env) // num_env
        episodes = self.comm.share(EPISODES)
        if self.remembering is not None:
            runner = RecurrentRunner(env, self.remembering, nsteps, episodes, self.longest_sequence)
            self._require_length(runner.sequence_length)
            return runner
        return Runner(env, self, nsteps, self.whole_episodes and num_env == 1, episodes)

    def _require_length(self, steps: int) -> None:
        """Raises UserError where the graphs of a recurrent network are those of sequences of another length."""
        if self._unrolled not in (None, steps):
            raise UserError(
                f"num_env: gives sequences of {steps} steps, and the {self.network_name} has learned from those of "
                f"{self._unrolled}; give the same number of environments, or save the model and load it again"
            )
        self._unrolled = steps

    def row_order(self, size: int) -> np.ndarray:
        """This update's random order of the rows of a batch, or of its environments, [size]."""
        return np.random.default_rng([self.seed, self.updates]).permutation(size)

    @abc.abstractmethod
    def returns(self, rollout: Rollout) -> np.ndarray:
        """What the critic learns from a rollout, [T, N]."""

    @abc.abstractmethod
    def update(self, rollout: Rollout, total_timesteps: int) -> dict[str, Any]:
        """Learns from a rollout of its own actions; returns scalars for the log.

        Args:
          rollout: T steps of N environments, those of this rank.
          total_timesteps: length of the run, which schedules follow.
        """

    def status(self) -> dict[str, float]:
        """Numbers for the log beside an update's own, such as the age of the inverses and the critic's loss."""
        return {}

    # -- state --------------------------------------------------------------------------------------------------------

    def state(self, policy_only: bool = False) -> Arrays:
        """Everything that training changes, by name, copied; with `policy_only`, or where a model has no more, what it
        acts by."""
        arrays: Arrays = {}
        for name in self._held_parts(policy_only):
            arrays |= with_prefix(name, self.parts[name].state())
        return arrays

    def set_state(self, arrays: Arrays) -> None:
        """Restores what `state` returned; raises KeyError or ValueError if a name is missing or a shape differs."""
        for name in self._held_parts():
            self.parts[name].set_state(without_prefix(name, arrays))

    def _held_parts(self, policy_only: bool = False) -> list[str]:
        """Names of the parts that this model has learned, or acts by, in the order in which they are restored."""
        return [name for name in self.parts if name in self.ACTING or not (policy_only or self.policy_only)]

    def own_state(self) -> Arrays:
        """The part of the state that each rank has for itself."""
        return {name: array for name, array in self.state().items() if name in self.OWN}

    def close(self) -> None:
        """Ends the background threads of its parts, which start again when they are needed."""
        for part in self.parts.values():
            if hasattr(part, "close"):
                part.close()

    def content(self, policy_only: bool = False) -> tuple[Arrays, dict[str, Any]]:
        """What a checkpoint holds: arrays by name, copied, and their description, which JSON can hold.

        Args:
          policy_only: only what acting needs: the weights of the policy, its filter, its random numbers.

        Raises:
          RunFailedError: naming an array with a NaN or an infinity.
        """
        policy_only = policy_only or self.policy_only
        arrays = self.state(policy_only)
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise RunFailedError(f"after update {self.updates}: {name} is not finite, so nothing is saved")

        meta = description.describe(
            algorithm=self.algorithm,
            env_id=self.env_id,
            observation_space=self.observation_space,
            action_space=self.action_space,
            network=self.network_name,
            config=self.config,
            env_arguments=self.env_arguments,
            counters={"timesteps": self.timesteps, "updates": self.updates, "seed": self.seed},
        )
        return arrays, meta | ({"policy_only": True} if policy_only else {})

    def save(self, path: str) -> None:
        """Writes a checkpoint to exactly this file, and replaces it when the new one is whole.

        Raises:
          UserError: the file cannot be written.
          RunFailedError: a number in the checkpoint is not finite; an older file stays as it is.
        """
        array_file.save(given_path(path, "path"), *self.content())

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise UserError("a model cannot be copied or pickled: use model.save(path) and baselines_acktr.load(path)")

    def load(self, path: str) -> None:
        """Takes everything that training changes from a checkpoint; ranks above 0 keep what each has for itself.

        `baselines_acktr.load` makes a model from a checkpoint alone.

        Raises:
          UserError: if the file is damaged or was trained by another algorithm, on other spaces or another network.
        """
        path = given_path(path, "path")
        arrays, meta = array_file.load(path)
        schema.check_description(path, meta)
        self._require_same(meta, path)
        schema.check_content(path, arrays, meta, self.config_class)
        self.restore(arrays, meta, path)

    def restore(self, arrays: Arrays, meta: dict[str, Any], path: str) -> None:
        """Takes what a checkpoint holds that `schema` has let in; raises as `load`, naming `path`."""
        self._require_same(meta, path)
        self.policy_only = meta.get("policy_only", False)
        if self.comm.rank:
            arrays |= self.own_state()
        try:
            self.set_state(arrays)
        except MISFITS as error:
            raise UserError(
                f"checkpoint {path}: does not fit this network and optimizer: {brief(error, 300)}"
            ) from error

        counters = meta["counters"]
        self.timesteps = counters["timesteps"]
        self.updates = counters["updates"]
        self.seed = counters["seed"]

    def _require_same(self, meta: dict[str, Any], path: str) -> None:
        """Raises UserError for a checkpoint of another algorithm, environment, network or architecture."""
        description.check_compatible(
            meta,
            path,
            algorithm=self.algorithm,
            env_id=self.env_id,
            observation_space=self.observation_space,
            action_space=self.action_space,
            network=self.network_name,
            config={name: value for name in ARCHITECTURE if (value := getattr(self.config, name, None)) is not None},
        )
