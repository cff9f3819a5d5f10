"""Which registered environments are MuJoCo tasks that are implemented here, and with which arguments."""

from __future__ import annotations

import importlib
import inspect
import re
from typing import Any, NamedTuple

from gymnasium.envs.registration import EnvSpec

from common.vec_env.mujoco.arms import InvertedDoublePendulum, InvertedPendulum, Pusher, Reacher
from common.vec_env.mujoco.locomotion import (
    Ant,
    HalfCheetah,
    Hopper,
    Humanoid,
    HumanoidStandup,
    Swimmer,
    Walker2d,
)
from common.vec_env.mujoco.tasks import Task

TASKS: dict[str, type[Task]] = {
    "ant": Ant,
    "half_cheetah": HalfCheetah,
    "hopper": Hopper,
    "humanoid": Humanoid,
    "humanoidstandup": HumanoidStandup,
    "inverted_double_pendulum": InvertedDoublePendulum,
    "inverted_pendulum": InvertedPendulum,
    "pusher": Pusher,
    "reacher": Reacher,
    "swimmer": Swimmer,
    "walker2d": Walker2d,
}

_ENTRY_POINT = re.compile(r"gymnasium\.envs\.mujoco\.(\w+)_v([45]):(\w+)")
_V4_MODELS = {"walker2d": "walker2d.xml"}  # models of version 4 that differ from those of version 5
_FIXED = {"xml_file", "default_camera_config"}  # arguments that must keep their defaults


class MujocoTask(NamedTuple):
    """A registered MuJoCo task.

    Attributes:
      task: class that implements it.
      version: 4 or 5.
      options: all arguments of Gymnasium's environment, by name.
    """

    task: type[Task]
    version: int
    options: dict[str, Any]


def find_task(spec: EnvSpec) -> MujocoTask | None:
    """Returns the MuJoCo task of a registered environment.

    The result is None if the task is not implemented here, or is registered with arguments or wrappers that are not.
    """
    match = _ENTRY_POINT.fullmatch(str(spec.entry_point))
    if match is None or match[1] not in TASKS or spec.additional_wrappers:
        return None
    if match.group(1, 2) == ("pusher", "4"):  # does not exist for MuJoCo 3
        return None

    name, version, class_name = match.groups()
    defaults = _defaults(name, version, class_name)
    if not spec.kwargs.keys() <= defaults.keys() - _FIXED:
        return None

    # Version 4 lacks some arguments of version 5. Their values are fixed there to the defaults of version 5.
    options = _defaults(name, "5", class_name) | defaults | spec.kwargs
    if version == "4" and name in _V4_MODELS:
        options["xml_file"] = _V4_MODELS[name]

    return MujocoTask(TASKS[name], int(version), options)


def _defaults(name: str, version: str, class_name: str) -> dict[str, Any]:
    """Returns the default arguments of an environment."""
    module = importlib.import_module(f"gymnasium.envs.mujoco.{name}_v{version}")
    parameters = inspect.signature(getattr(module, class_name)).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}
