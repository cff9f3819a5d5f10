"""Claims about files that somebody made to do harm: one line at every door, bounded memory and time, no code run."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hostile_files import ACTIONS, OBSERVATIONS, hostile_archives, hostile_models, hostile_runs, small_model, small_run

from baselines_acktr import a2c, acktr_discrete, load
from baselines_acktr.agent.networks import register
from baselines_acktr.session import checkpoints, schema
from baselines_acktr.session.settling import settle
from common import array_file
from common.errors import UserError, brief, one_line
from common.vec_env import make_vec_env

MEMORY = 64 * 2**20  # bytes of Python's and NumPy's objects, above what was there
SECONDS = 30  # of the processor, for all files of a kind
LENGTH = 500  # characters of a message, without the file's path


@pytest.fixture(autouse=True)
def no_folder(monkeypatch):
    """Nothing is looked for in the user's log folder."""
    monkeypatch.delenv("OPENAI_LOGDIR", raising=False)


def require_one_line(path: Path, door: Callable[[], object], name: str) -> str:
    """Calls a door, which must refuse in one line of printable text that names the file; returns the line."""
    with pytest.raises(UserError) as caught:
        door()
        pytest.fail(f"{name}: was let in")
    text = str(caught.value)
    assert text.isprintable(), name
    assert len(text.replace(str(path), "").replace(str(path.parent), "")) < LENGTH, name
    return text


def test_no_description_of_a_model_gets_past_any_door(tmp_path):
    path, count, start = tmp_path / "model", 0, time.process_time()
    model = acktr_discrete.Model(OBSERVATIONS, ACTIONS, "mlp", acktr_discrete.Model.config_class(hidden_sizes=(4,)))

    def read(file: Path) -> object:
        return checkpoints.read_model(str(file), "path")

    def settled(file: Path) -> object:
        return settle({"load_path": str(file)})

    rise = 0  # the most memory that one file took
    tracemalloc.start()
    for name, content in hostile_models():
        array_file.save(path, *content)
        for door in (read, load, settled, model.load):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            assert str(path) in require_one_line(path, lambda door=door: door(path), name)
            rise = max(rise, tracemalloc.get_traced_memory()[1] - before)
        count += 1
    tracemalloc.stop()
    assert count >= 150
    assert rise < MEMORY
    assert time.process_time() - start < SECONDS


def test_no_description_of_a_run_gets_past_resuming(tmp_path, capsys):
    folder, count, start = tmp_path / "checkpoints", 0, time.process_time()
    array_file.save(folder / "00000010.model", *small_model())
    for name, content in hostile_runs():
        array_file.save(folder / "00000010.run", *content)
        require_one_line(folder, lambda: settle({"resume": True, "log_path": str(tmp_path)}), name)
        lines = capsys.readouterr().err.splitlines()
        assert all(line.isprintable() and len(line.replace(str(folder), "")) < LENGTH for line in lines)
        count += 1
    assert count >= 100
    assert time.process_time() - start < SECONDS


def test_no_archive_gets_past_the_reader(tmp_path):
    count, start = 0, time.process_time()
    tracemalloc.start()
    for name, path in hostile_archives(tmp_path):
        assert str(path) in require_one_line(path, lambda path=path: array_file.load(path), name)
        count += 1
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count >= 80
    assert peak < MEMORY + 2**26  # what the generator itself holds of a compressed one
    assert time.process_time() - start < SECONDS


def test_what_the_generators_change_is_let_in_unchanged(tmp_path):
    array_file.save(tmp_path / "checkpoints/00000010.model", *small_model())
    array_file.save(tmp_path / "checkpoints/00000010.run", *small_run())
    assert settle({"load_path": str(tmp_path / "checkpoints/00000010.model")}).options.env == "CartPole-v1"
    assert settle({"resume": True, "log_path": str(tmp_path)}).num_env == 2


def write_module(tmp_path: Path, monkeypatch, name: str) -> Path:
    """Makes a module importable that leaves a mark when it is run; returns the mark's path."""
    mark = tmp_path / f"{name}.ran"
    code = f"open({str(mark)!r}, 'w')\nfrom baselines_acktr.agent.networks import mlp as build\n"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return mark


def doors(tmp_path: Path) -> dict[str, Callable[[], object]]:
    path = str(tmp_path / "checkpoints/00000010.model")

    def learn() -> object:
        with make_vec_env("CartPole-v1", 2, 0) as env:
            return acktr_discrete.learn(env=env, load_path=path, total_timesteps=1000)

    return {
        "load": lambda: load(path),
        "learn": learn,
        "load_path": lambda: settle({"load_path": path}),
        "play": lambda: settle({"load_path": str(tmp_path), "play": True}),
        "resume": lambda: settle({"resume": True, "log_path": str(tmp_path)}),
    }


@pytest.mark.parametrize("door", ["load", "learn", "load_path", "play", "resume"])
def test_a_network_that_a_file_names_is_not_imported(tmp_path, monkeypatch, door):
    mark = write_module(tmp_path, monkeypatch, f"evil_network_{door}")
    name = f"evil_network_{door}:build"
    arrays, meta = small_model()
    array_file.save(tmp_path / "checkpoints/00000010.model", arrays, meta | {"network": name})
    run_arrays, run_meta = small_run()
    run_meta["settings"]["network"] = name
    array_file.save(tmp_path / "checkpoints/00000010.run", run_arrays, run_meta)
    with pytest.raises(UserError, match=rf"its network is {name}, which would run code .* or --trust"):
        doors(tmp_path)[door]()
    assert not mark.exists()


@pytest.mark.parametrize("door", ["load_path", "play", "resume"])
def test_an_environment_that_a_file_names_is_not_imported(tmp_path, monkeypatch, door):
    mark = write_module(tmp_path, monkeypatch, f"evil_env_{door}")
    name = f"evil_env_{door}:CartPole-v1"
    (arrays, meta), (run_arrays, run_meta) = small_model(), small_run()
    (run_meta["settings"] if door == "resume" else meta["env_arguments"]).update(
        {"env": name} if door == "resume" else {"env_id": name}
    )
    array_file.save(tmp_path / "checkpoints/00000010.model", arrays, meta)
    array_file.save(tmp_path / "checkpoints/00000010.run", run_arrays, run_meta)
    with pytest.raises(UserError, match=rf"its environment is {name}, which would run code .* or --trust"):
        doors(tmp_path)[door]()
    assert not mark.exists()


def test_the_environment_of_a_loaded_model_has_no_module_that_is_not_imported(tmp_path, monkeypatch):
    mark = write_module(tmp_path, monkeypatch, "evil_of_loaded")
    model = a2c.DiscreteModel(
        gym.spaces.Box(-1, 1, (4,)), gym.spaces.Discrete(2), "mlp", a2c.DiscreteModel.config_class(hidden_sizes=(4,))
    )
    model.env_arguments = {"env_id": "evil_of_loaded:CartPole-v1"}
    model.save(str(tmp_path / "model"))
    with make_vec_env(**load(str(tmp_path / "model")).env_arguments, num_env=1, seed=0):
        assert not mark.exists()
    assert load(str(tmp_path / "model"), trust=True).env_arguments == model.env_arguments


def test_names_that_are_typed_trusted_or_registered_are_used(tmp_path, monkeypatch):
    mark = write_module(tmp_path, monkeypatch, "good_module")
    arrays, meta = small_model()
    meta |= {"network": "good_module:build"}
    meta["env_arguments"]["env_id"] = "good_module:CartPole-v1"
    array_file.save(tmp_path / "model", arrays, meta)
    typed = {"env": "good_module:CartPole-v1", "network": "good_module:build"}
    for allowed in (typed, {"trust": True}):
        options = settle({"load_path": str(tmp_path / "model")} | allowed).options
        assert (options.env, options.network) == (typed["env"], typed["network"])
    with pytest.raises(UserError, match="its network is good_module:build"):
        settle({"load_path": str(tmp_path / "model"), "env": typed["env"]})
    assert not mark.exists()  # nothing is built yet
    register("good_module:build")(lambda space, config: None)
    assert settle({"load_path": str(tmp_path / "model"), "env": typed["env"]}).options.network == typed["network"]


def test_loading_with_trust_uses_the_network_and_later_loads_need_none(tmp_path, monkeypatch):
    mark = write_module(tmp_path, monkeypatch, "wide_module")
    config = a2c.DiscreteModel.config_class(hidden_sizes=(4,))
    spaces = gym.spaces.Box(-1, 1, (4,)), gym.spaces.Discrete(2)
    a2c.DiscreteModel(*spaces, "mlp", config).save(str(tmp_path / "mlp"))
    arrays, meta = array_file.load(tmp_path / "mlp")
    array_file.save(tmp_path / "model", arrays, meta | {"network": "wide_module:build"})
    with pytest.raises(UserError, match="its network is wide_module:build"):
        load(str(tmp_path / "model"))
    assert not mark.exists()
    assert load(str(tmp_path / "model"), trust=True).network_name == "wide_module:build"
    assert mark.exists()
    assert load(str(tmp_path / "model")).network_name == "wide_module:build"


def test_a_run_does_not_say_where_to_write_nor_what_to_trust(tmp_path, capsys):
    arrays, meta = small_run()
    others = {
        "save_path": "/etc/passwd",
        "log_path": "/",
        "load_path": "/etc/shadow",
        "video": "/etc/x.gif",
        "trust": True,
    }
    meta["settings"] |= others
    array_file.save(tmp_path / "checkpoints/00000010.model", *small_model())
    array_file.save(tmp_path / "checkpoints/00000010.run", arrays, meta)
    options = settle({"resume": True, "log_path": str(tmp_path)}).options
    assert (options.save_path, options.video, options.trust) == (None, None, False)
    assert options.log_path == str(tmp_path)
    assert options.load_path == str(tmp_path / "checkpoints/00000010.model")
    assert "--save_path was /etc/passwd; a checkpoint cannot say where to write" in capsys.readouterr().err


def test_a_model_without_its_run_is_played(tmp_path):
    array_file.save(tmp_path / "checkpoints/00000010.model", *small_model())
    options = settle({"load_path": str(tmp_path), "play": True}).options
    assert options.load_path == str(tmp_path / "checkpoints/00000010.model")


def test_text_of_strangers_is_cut_and_its_control_characters_are_written_out():
    assert brief("\x1b[31m\u202eä\n") == r"\x1b[31m\u202eä\n"
    assert brief("A" * 10**6) == "A" * 97 + "..."
    assert brief(np.arange(3)) == "[0 1 2]"
    assert one_line(UserError("a\n  b\x07")) == r"a b\x07"
    assert len(one_line(UserError("A" * 10**6))) == 2000


def test_state_of_a_hostile_environment_is_no_bomb():
    from common.vec_env.env_state import _decode

    with pytest.raises(ValueError, match="a sequence of 1000000000000"):
        _decode("x", {"x.tuple": np.array(10**12)})
    assert _decode("x", {"x.tuple": np.array(3)}) == (None, None, None)
    assert sys.getsizeof(_decode("x", {"x.list": np.array(2**16)})) < 2**20


RUN_JSONS = ["", "{", "[]", "null", '{"settings": []}', '{"settings": {"lr": 1}}', '{"settings": {"lr": {"value": 1}}}']
RUN_JSONS += ['{"settings": {"lr": {"from": "default"}}}', '{"settings": {"lr": {"value": 1, "from": 7}}}', "[" * 10**5]
RUN_JSONS += ['{"settings": {"\\u001b[2J": 1}}', '{"a": ' * 10**5, " " * 2**21, '{"settings": {"lr": {"value": NaN}}}']


@pytest.mark.parametrize("text", RUN_JSONS)
def test_a_run_json_that_is_none_of_ours_is_one_line(tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    line = require_one_line(tmp_path, lambda: schema.settings_in_run_json(tmp_path / "run.json"), text[:40])
    assert "run.json: damaged: " in line


@pytest.mark.parametrize("value", [None, [], {}, {"timesteps": -1, "updates": 0, "seed": 0}, {"timesteps": "1"}])
def test_counters_that_are_none_are_one_line(tmp_path, value):
    arrays, meta = small_model()
    array_file.save(tmp_path / "model", arrays, meta | {"counters": value})
    require_one_line(tmp_path, lambda: schema.timesteps_of(tmp_path / "model"), str(value))
