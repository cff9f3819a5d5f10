"""Writing a policy as one graph, in the formats of other programs; whole or not at all."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym

from baselines_acktr.agent.acting import ActingModel, RecurrentActingModel
from baselines_acktr.agent.export_formats import FORMATS, check_export, find_format
from baselines_acktr.agent.policies import Policy
from baselines_acktr.agent.recurrent import Remembering
from common.atomic_file import replacing, replacing_folder
from common.errors import UserError, brief, one_line
from common.paths import given_path

NOTE = "acktr.json"  # what the description of a model is kept as
_KERAS_NAMES = {"saved_model": "tf_saved_model", "tflite": "litert", "onnx": "onnx"}


def export(
    policy: Policy,
    observation_space: gym.Space,
    path: str,
    name: str | None,
    deterministic: bool,
    note: Mapping[str, Any],
) -> None:
    """Writes the graph of a policy.

    Args:
      policy: acts.
      observation_space: of one environment, as `make_vec_env` gives it.
      path, name, deterministic: as `path`, `format` and `deterministic` of `Agent.export`.
      note: what the file shall say of the model, as JSON can represent it.

    Raises:
      UserError: as `Agent.export`.
    """
    path = given_path(path, "path")
    format = find_format(path, name)
    check_export(path, format)
    remembers = isinstance(policy.network, Remembering)
    kind = RecurrentActingModel if remembers else ActingModel
    model = kind(policy, observation_space, deterministic, single=format is FORMATS["tflite"])
    memory = {"state": model.network.state_size} if remembers else {}
    text = json.dumps({**note, "format": format.name, "input": model.observation.dtype, **memory}, indent=1)

    try:
        Path(os.path.realpath(path)).parent.mkdir(parents=True, exist_ok=True)
        if format.ending:
            with replacing(path, format.ending) as file:
                _write(model, file.name, format.name)
                _describe_file(file.name, format.name, text)
        else:
            with replacing_folder(path) as folder:
                _write(model, str(folder), format.name)
                _describe_folder(folder, text)
    except OSError as error:
        raise UserError(f"path={brief(path)}: cannot be written: {error.strerror}") from error


def _write(model: ActingModel, path: str, name: str) -> None:
    """Writes a file or folder; raises `UserError` where the format does not have what the network does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of NumPy's, about what Keras adds to it for tf2onnx
            model.export(path, _KERAS_NAMES[name], verbose=False, input_signature=[model.signature])
    except OSError:
        raise
    except Exception as error:  # of whatever type: each converter has its own
        reason = brief(one_line(error), 300)
        raise UserError(f"format={name}: this network cannot be written in it: {reason}") from error


def _describe_folder(folder: Path, text: str) -> None:
    """Puts the description where TensorFlow keeps what it does not read itself."""
    place = folder / "assets.extra"
    place.mkdir()
    (place / NOTE).write_text(text)


def _describe_file(path: str, name: str, text: str) -> None:
    """Puts the description into the field that the format has for it: `description` or `metadata_props`."""
    if name == "onnx":
        _finish_onnx(path, text)
        return
    from tensorflow.lite.tools import flatbuffer_utils

    graph = flatbuffer_utils.read_model(path)
    graph.description = text
    flatbuffer_utils.write_model(graph, path)


def _finish_onnx(path: str, text: str) -> None:
    """Puts the description in, and takes the fixed seeds out that the converter writes for those that are none."""
    import onnx  # late: it is optional

    written = onnx.load(path)
    for node in written.graph.node:
        kept = [attribute for attribute in node.attribute if attribute.name != "seed"]
        del node.attribute[:]
        node.attribute.extend(kept)
    onnx.helper.set_model_props(written, {NOTE: text})
    onnx.save(written, path)
