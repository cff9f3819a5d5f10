"""The settings of a run, and where each value came from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from baselines_acktr.session.learners import LEARNERS
from baselines_acktr.session.options import RunOptions, parse_env_kwargs
from common import cli
from common.errors import UserError
from common.options import values_in_files

if TYPE_CHECKING:
    from baselines_acktr.session.checkpoints import SavedModel

# Hyperparameters of learners for one kind of actions -> what those for the other kind have in their place.
_OTHER_FORM = {"nsteps": "timesteps_per_batch", "timesteps_per_batch": "nsteps"}
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a run does.

    Its properties are the options that are None until they are settled, without the None; before, they raise
    RuntimeError.

    Attributes:
      options: the run's flags, as typed or from the checkpoint.
      origins: {name of a flag: "default", "replay", "checkpoint", "environment preset", "drawn", "config file" or
        "command line"}.
      trained: timesteps that the checkpoint has behind it.
      layers: (origin, hyperparameters): those of the checkpoint, of --config, typed ones.
      saved: the checkpoint's model, until it is restored.
      config: the learner's hyperparameters, once `with_learner` has settled them.
    """

    options: RunOptions
    origins: Mapping[str, str]
    trained: int
    layers: tuple[tuple[str, Mapping[str, Any]], ...]
    saved: SavedModel | None = None
    config: Any = None

    @property
    def env(self) -> str:
        return _settled(self.options.env)

    @property
    def seed(self) -> int:
        return _settled(self.options.seed)

    @property
    def num_env(self) -> int:
        return _settled(self.options.num_env)

    @property
    def log_path(self) -> str:
        return _settled(self.options.log_path)

    @property
    def load_path(self) -> str:
        return _settled(self.options.load_path)

    @property
    def network(self) -> str:
        return _settled(self.options.network)

    @property
    def env_kwargs(self) -> dict[str, Any]:
        return parse_env_kwargs(self.options.env_kwargs)

    def values(self) -> dict[str, Any]:
        """Returns {name of a flag: its value}."""
        return values_in_files(self.options) | values_in_files(self.config)

    def with_learner(self, kind: str, preset: Mapping[str, Any]) -> Settings:
        """Returns the settings with the hyperparameters of the algorithm's learner for `kind` of actions.

        Args:
          kind: `learners.DISCRETE` or `learners.CONTINUOUS`.
          preset: hyperparameters that follow from the environment.

        Raises:
          UserError: a flag that this learner does not have, or a value outside its limits.
        """
        config_class = LEARNERS[self.options.alg, kind].config_class
        names = {field.name for field in dataclasses.fields(config_class)}
        layers = dict(self.layers)
        for name in (*layers["command line"], *layers["config file"]):
            if name not in names:
                where = "" if name in layers["command line"] else f"--config={self.options.config}: "
                other = _OTHER_FORM.get(name)
                hint = f". Did you mean --{other}?" if other in names else ""
                raise UserError(f"{where}--{name}: {self.options.alg} with {kind} actions does not have it{hint}")
        config, origins = settle_config(config_class, ("environment preset", preset), *self.layers)
        return dataclasses.replace(self, config=config, origins={**self.origins, **origins})

    def unknown_to_checkpoint(self) -> list[str]:
        """Returns the hyperparameters that the checkpoint, where there is one, is too old to have."""
        loaded = dict(self.layers)["checkpoint"]
        names = [field.name for field in dataclasses.fields(self.config)]
        given = ("command line", "config file")
        return [n for n in names if n not in loaded and self.origins[n] not in given] if loaded else []

    def with_log_path(self, path: str) -> Settings:
        """Returns the settings with the same log folder, named otherwise."""
        return dataclasses.replace(self, options=dataclasses.replace(self.options, log_path=path))

    def preset(self, **values: Any) -> Settings:
        """Returns the settings with options that follow from the environment, unless they were given."""
        free = {name: value for name, value in values.items() if getattr(self.options, name) is None}
        options = dataclasses.replace(self.options, **free)
        return dataclasses.replace(
            self, options=options, origins={**self.origins, **dict.fromkeys(free, "environment preset")}
        )


def settle_config(config_class: type, *layers: tuple[str, Mapping[str, Any]]) -> tuple[Any, dict[str, str]]:
    """Merges what is known of a learner's hyperparameters, for run.py and Python alike.

    Args:
      config_class: dataclass of the hyperparameters.
      *layers: (origin, {name: value}), of which later ones win: what follows from the environment, the checkpoint's,
        those that the user gave. Names that the learner does not have are left out.

    Returns:
      The config, and {name: origin of its value}, which is "default" where no layer has it.

    Raises:
      UserError: a value outside its limits.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config_class)}
    values, origins = cli.resolve(("default", defaults), *layers)
    return config_class(**cli.tuples(cli.only(config_class, values))), cli.only(config_class, origins)


def _settled(value: T | None) -> T:
    if value is None:
        raise RuntimeError("this setting has no value yet")
    return value
