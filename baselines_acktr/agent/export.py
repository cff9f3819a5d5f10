"""Writing a policy as one graph, in the formats of other programs; whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import gymnasium as gym

from baselines_acktr.agent.acting import ActingModel
from baselines_acktr.agent.export_formats import FORMATS, check_export, find_format
from baselines_acktr.agent.policies import Policy
from common.atomic_file import replacing, replacing_folder
from common.errors import UserError, brief, one_line

_KERAS_NAMES = {"saved_model": "tf_saved_model", "tflite": "litert", "onnx": "onnx"}


def export(policy: Policy, observation_space: gym.Space, path: str, name: str | None, deterministic: bool) -> None:
    """Writes the graph of a policy; arguments and errors as for `Agent.export`."""
    path = os.path.expanduser(path)
    format = find_format(path, name)
    check_export(path, format)
    model = ActingModel(policy, observation_space, deterministic, single=format is FORMATS["tflite"])

    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
        if format.ending:
            with replacing(path, format.ending) as file:
                _write(model, file.name, format.name)
        else:
            with replacing_folder(path) as folder:
                _write(model, str(folder), format.name)
    except OSError as error:
        raise UserError(f"path={brief(path)}: cannot be written: {error.strerror}") from error


def _write(model: ActingModel, path: str, name: str) -> None:
    """Writes a file or folder; raises `UserError` where the format does not have what the network does."""
    try:
        model.export(path, _KERAS_NAMES[name], verbose=False, input_signature=[model.signature])
    except OSError:
        raise
    except Exception as error:  # of whatever type: each converter has its own
        raise UserError(
            f"format={name}: this network cannot be written in it: {brief(one_line(error), 300)}"
        ) from error
