"""Claims about Atari games: the rules of Baselines, and the native backend against the classic wrappers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import ale_py
import cv2
import gymnasium as gym
import numpy as np
import pytest
from repository import ROOT

from common.errors import UserError
from common.vec_env import benchmark, make_vec_env
from common.vec_env.atari import game as game_module
from common.vec_env.atari import vector, wrappers
from common.vec_env.atari.game import Game, GameSettings, slot_type
from common.vec_env.atari.vector import NativeAtariVectorEnv
from common.vec_env.ids import find_spec

SEED = 11


def make_game(name, seed=0, max_noops=vector.MAX_NOOPS):
    """Returns a started game of the native backend and its slot."""
    slot = np.zeros(1, slot_type(4))[0]
    game = Game(GameSettings(name, 4, vector.MAX_FRAMES, max_noops, 0.0, False), slot)
    game.reset(seed)
    return game, slot


def aligned_environments(env_id, num_env):
    """Returns the native and the classic environment with the same emulator seeds and numbers of no-ops."""
    classic = make_vec_env(env_id, num_env, seed=None, backend="sync")
    for i, env in enumerate(classic.unwrapped.envs):
        env.unwrapped.np_random = np.random.default_rng(SEED + i)
        env.unwrapped.ale.setInt("random_seed", SEED + i)
        env.unwrapped.load_game()
    return make_vec_env(env_id, num_env, seed=SEED), classic


def assert_same_infos(native, classic):
    """Compares infos but for the newest frame of a game that ended, which Gymnasium's preprocessing does not take."""
    np.testing.assert_array_equal(native["lives"], classic["lives"])
    for key in ("final_obs", "episode"):
        assert (key in native) == (key in classic)
        if key in native:
            np.testing.assert_array_equal(native[f"_{key}"], classic[f"_{key}"])
    game_ended = native.get("_episode", np.zeros(len(native["lives"]), bool))
    for i in np.flatnonzero(native.get("_final_obs", ())):
        frames = slice(0, 3 if game_ended[i] else 4)
        np.testing.assert_array_equal(native["final_obs"][i][..., frames], classic["final_obs"][i][..., frames])
    for i in np.flatnonzero(game_ended):
        for key in ("r", "l"):
            assert native["episode"][key][i] == classic["episode"][key][i]


@pytest.mark.parametrize("game", ["Breakout", "Pong", "Seaquest", "SpaceInvaders", "MsPacman"])
def test_native_and_classic_games_agree_frame_by_frame(game):
    native, classic = aligned_environments(f"{game}NoFrameskip-v4", 2)
    rng = np.random.default_rng(0)
    games = lives = 0
    with native, classic:
        (observations, infos), (expected, expected_infos) = native.reset(), classic.reset()
        np.testing.assert_array_equal(observations, expected)
        assert_same_infos(infos, expected_infos)
        for _ in range(3000):
            actions = rng.integers(0, native.single_action_space.n, 2)
            step, expected = native.step(actions), classic.step(actions)
            for ours, theirs in zip(step[:4], expected[:4], strict=True):
                np.testing.assert_array_equal(ours, theirs)
            assert_same_infos(step[4], expected[4])
            games += step[4].get("_episode", np.zeros(1)).sum()
            lives += step[2].sum()
            if games >= 2:
                break
    assert games >= 2
    assert game == "Pong" or lives > games


class FakeEmulator(gym.Env):
    """Plays a list of `(lives, game over)`, one for each step.

    Attributes:
      played: the actions of the steps; a new game is `"new"`.
    """

    observation_space = gym.spaces.Box(0, 255, (84, 84), np.uint8)
    action_space = gym.spaces.Discrete(3)

    def __init__(self, results: list[tuple[int, bool]]) -> None:
        self.results = results
        self.played: list[int | str] = []
        self.over = False

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        self.played.append("new")
        self.over = False
        return np.zeros((84, 84), np.uint8), {"lives": 3}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.played.append(action)
        lives, self.over = self.results.pop(0)
        return np.zeros((84, 84), np.uint8), 0.0, self.over, False, {"lives": lives}


class FakeAle:
    """An emulator of ale-py that plays a `FakeEmulator`, one of its steps in four frames, after a no-op."""

    ACTIONS = (ale_py.Action.NOOP, ale_py.Action.FIRE, ale_py.Action.RIGHT)

    def __init__(self, emulator: FakeEmulator) -> None:
        self._emulator = emulator
        self._frames = 0
        self._lives = 3

    def getMinimalActionSet(self) -> list[ale_py.Action]:
        return list(self.ACTIONS)

    def act(self, action: int) -> int:
        if self._frames % 4 == 0:
            number = [one.value for one in self.ACTIONS].index(action)
            self._lives = self._emulator.step(number)[4]["lives"]
        self._frames += 1
        return 0

    def reset_game(self) -> None:
        self._emulator.reset()
        self._frames = -1  # of the no-op
        self._lives = 3

    def game_over(self, with_truncation: bool = True) -> bool:
        return self._emulator.over

    def game_truncated(self) -> bool:
        return False

    def lives(self) -> int:
        return self._lives

    def getScreenGrayscale(self, screen: np.ndarray | None = None) -> np.ndarray:
        return np.zeros((210, 160), np.uint8)


RESETS = {
    "the game goes on": ([(2, False)] * 4, [0, 1, 2]),
    "the game is over": ([(0, True), (3, False), (3, False)], ["new", 1, 2]),
    "a life is lost at FIRE": ([(2, False), (2, False), (1, False), (1, False), (1, False)], [0, 1, 0, 2]),
    "a life is lost at the second action": ([(2, False), (2, False), (2, False), (1, False), (1, False)], [0, 1, 2, 0]),
    "the game ends at the no-op": ([(2, False), (0, True), (3, False), (3, False)], [0, "new", 1, 2]),
    "the game ends at FIRE": ([(2, False), (2, False), (0, True), (3, False)], [0, 1, "new", 2]),
    "the game ends at the second action": ([(2, False), (2, False), (2, False), (0, True)], [0, 1, 2, "new"]),
    "it runs on at 0 lives": ([(0, False), (0, True), (3, False), (3, False)], [1, "new", 1, 2]),
}


@pytest.mark.parametrize(("results", "played"), RESETS.values(), ids=RESETS)
@pytest.mark.parametrize("backend", ["native", "classic"])
def test_an_episode_of_the_agent_starts_with_the_actions_of_baselines(results, played, backend, monkeypatch):
    emulator = FakeEmulator([(3, False), (3, False), *results])
    if backend == "native":
        monkeypatch.setattr(game_module, "load_emulator", lambda settings, seed: FakeAle(emulator))
        game, slot = make_game("breakout", max_noops=1)
        emulator.played = []
        for slot["action"] in (2, 1):
            if game.step():
                game.begin_episode()
            if slot["terminated"]:
                break
    else:
        env = wrappers.FireReset(wrappers.EpisodicLife(emulator))
        env.reset()
        emulator.played = []
        for action in (2, 1):
            if env.step(action)[2]:
                break
        env.reset()
    assert emulator.played == [2, *played]


@pytest.fixture(params=["native", "sync"])
def breakout(request):
    with make_vec_env("BreakoutNoFrameskip-v4", 1, seed=0, backend=request.param) as env:
        env.reset()
        yield env


def until(env, key, action=0):
    """Steps until infos have `key`; returns that step."""
    for _ in range(2000):
        step = env.step(np.array([action]))
        if key in step[4]:
            return step
    raise AssertionError(f"no {key}")


def test_life_loss_is_terminal_without_resetting_the_game(breakout):
    lives = []
    for _ in range(5):
        _, _, terminations, truncations, infos = until(breakout, "_final_obs")
        assert (terminations.tolist(), truncations.tolist()) == ([True], [False])
        lives.append((infos["lives"][0], "episode" in infos))
    assert lives == [(4, False), (3, False), (2, False), (1, False), (5, True)]


def test_the_stack_is_cleared_at_life_loss_and_the_final_observation_is_the_old_stack(breakout):
    observations, _, _, _, infos = until(breakout, "_final_obs")
    assert observations[0, ..., -1].any()
    assert not observations[0, ..., :-1].any()
    assert all(infos["final_obs"][0][..., k].any() for k in range(4))


def test_the_length_counts_the_steps_of_resets_and_the_score_is_raw(breakout):
    score = steps = 0
    while True:
        _, rewards, _, _, infos = breakout.step(np.array([3 - steps % 2]))
        steps += 1
        score += rewards[0]
        if "episode" in infos:
            break
    # 2 steps start the game; each of the 4 lives lost before the last costs a no-op and 2 steps.
    assert infos["episode"]["l"][0] == steps + 2 + 4 * 3
    assert infos["episode"]["r"][0] >= score


@pytest.mark.parametrize("backend", ["native", "sync"])
def test_rewards_are_signs_and_scores_are_the_games_own(backend):
    with make_vec_env("SeaquestNoFrameskip-v4", 2, seed=3, backend=backend) as env:
        env.reset()
        rng = np.random.default_rng(1)
        seen = set()
        while True:
            _, rewards, _, _, infos = env.step(rng.integers(0, 18, 2))
            seen |= set(rewards.tolist())
            if "episode" in infos and infos["episode"]["r"].max() > 0:
                break
    assert seen == {0.0, 1.0}
    assert infos["episode"]["r"].max() % 20 == 0


@pytest.fixture
def emulators(monkeypatch):
    """The emulators of the native backend's games, as they are loaded, each behind a `Tape`."""
    load = game_module.load_emulator
    loaded = []

    def taped(settings, seed):
        loaded.append(Tape(load(settings, seed)))
        return loaded[-1]

    monkeypatch.setattr(game_module, "load_emulator", taped)
    return loaded


def test_noop_starts_are_uniform_from_1_to_30(emulators):
    game, _ = make_game("pong")
    counts = Counter()
    for _ in range(300):
        game.reset(None)
        counts[emulators[0].getEpisodeFrameNumber() - 2 * 4] += 1  # FIRE and the action after it, of four frames each
    assert set(counts) <= set(range(1, 31))
    chi_squared = sum((counts[n] - 10) ** 2 / 10 for n in range(1, 31))
    assert chi_squared < 58.3  # the 0.999 quantile for 29 degrees of freedom


class Tape:
    """An emulator that keeps the screens of every step, and what Baselines' `MaxAndSkipEnv` makes of them."""

    def __init__(self, ale):
        self._ale = ale
        self.steps = []

    def __getattr__(self, name):
        return getattr(self._ale, name)

    def act(self, action):
        reward = self._ale.act(action)
        if len(self.steps[-1]) == 4:
            self.steps.append([])
        self.steps[-1].append(self._ale.getScreenGrayscale())
        return reward

    def reset_game(self):
        self._ale.reset_game()
        self.steps.append([])

    def seen(self):
        """The maximum of the newest third and the newest fourth frame of a step."""
        newest = [next(step[k] for step in reversed(self.steps) if len(step) > k) for k in (2, 3)]
        return cv2.resize(np.maximum(*newest), (84, 84), interpolation=cv2.INTER_AREA)


def test_the_final_frame_of_a_game_is_that_of_baselines_at_whichever_frame_it_ends(emulators):
    lengths = set()
    for seed in range(12):
        game, slot = make_game("seaquest", seed)
        tape = emulators[-1]
        rng = np.random.default_rng(seed)
        seen = []
        while not slot["game_ended"]:
            slot["action"] = rng.integers(18)
            tape.steps.append([])
            if game.step():
                seen.append((tape.seen(), len(tape.steps[-1])))
                tape.steps.append([])
                game.begin_episode()
        expected, length = seen[-1]
        np.testing.assert_array_equal(slot["final_obs"][..., -1], expected)
        lengths.add(length)
    assert lengths >= {2, 3, 4}


def test_the_frame_limit_counts_the_no_ops_and_truncates_and_the_next_game_starts(monkeypatch):
    monkeypatch.setattr(vector, "MAX_NOOPS", 1)
    env = NativeAtariVectorEnv(find_spec("PongNoFrameskip-v4"), 2, max_frames=41)
    with contextlib.closing(env):
        env.reset(seed=0)
        for _ in range(3):
            for _ in range(7):  # 1 no-op and 10 steps, 2 of them those that start the game
                assert not env.step(np.zeros(2, int))[3].any()
            observations, _, terminations, truncations, infos = env.step(np.zeros(2, int))
            assert truncations.tolist() == [True, True]
            assert not terminations.any()
            assert infos["_final_obs"].tolist() == infos["_episode"].tolist() == [True, True]
            assert infos["episode"]["l"].tolist() == [10, 10]
            assert not observations[..., :-1].any()


@pytest.mark.parametrize("steps", [1, 2])
def test_a_game_that_ends_during_its_own_reset_steps_is_counted_and_followed_by_the_next(steps, monkeypatch):
    monkeypatch.setattr(vector, "MAX_NOOPS", 1)
    env = NativeAtariVectorEnv(find_spec("BreakoutNoFrameskip-v4"), 1, max_frames=1 + 4 * steps)
    with contextlib.closing(env):
        _, infos = env.reset(seed=0)
        assert infos["episode"]["l"].tolist() == [steps]
        observations, _, _, _, _ = env.step(np.array([0]))
        assert observations[..., -1].any()


def test_later_steps_do_not_change_arrays_that_were_returned():
    with make_vec_env("BreakoutNoFrameskip-v4", 2, seed=0) as env:
        kept = [env.reset()[0]]
        copies = [kept[0].copy()]
        for _ in range(60):
            observations, _, _, _, infos = env.step(np.array([2, 3]))
            arrays = [observations, *[obs for obs in infos.get("final_obs", ()) if obs is not None]]
            kept += arrays
            copies += [array.copy() for array in arrays]
    assert len(kept) > 61
    for array, copied in zip(kept, copies, strict=True):
        np.testing.assert_array_equal(array, copied)


@pytest.mark.parametrize("frame_stack", [1, 4, 5])
def test_a_step_pushes_one_frame_onto_a_stack_of_any_size(frame_stack):
    with make_vec_env("PongNoFrameskip-v4", 2, seed=0, frame_stack=frame_stack) as env:
        last, _ = env.reset()
        assert last.shape == (2, 84, 84, frame_stack)
        for _ in range(30):
            observations = env.step(np.array([2, 3]))[0]
            np.testing.assert_array_equal(observations[..., :-1], last[..., 1:])
            last = observations
        assert frame_stack == 1 or (last[..., -1] != last[..., -2]).any()


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([0, 4, 0], "environment 1 got 4, allowed are 0 to 3"),
        ([0, 0, -1], "environment 2 got -1"),
        ([0, 0], r"shape \(3,\)"),
        ([0.0, 0.0, 0.0], "integers"),
    ],
)
def test_an_impossible_action_is_an_error_and_not_a_hang(actions, message):
    with make_vec_env("BreakoutNoFrameskip-v4", 3, seed=0) as env:
        env.reset()
        with pytest.raises(ValueError, match=message):
            env.step(np.array(actions))
        env.step(np.array([0, 1, 2]))


def play(env, steps, seed=0):
    """Returns everything that random actions show, as a list of arrays for each step."""
    rng = np.random.default_rng(seed)
    shown = []
    for _ in range(steps):
        *arrays, infos = env.step(rng.integers(0, env.single_action_space.n, env.num_envs))
        final = [observation for observation in infos.get("final_obs", ()) if observation is not None]
        games = [infos["episode"][key] for key in "rl"] if "episode" in infos else []
        shown.append([*arrays, infos["lives"], *final, *games])
    return shown


def assert_same(one, other):
    for ours, theirs in zip(one, other, strict=True):
        for array, expected in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(array, expected)


@pytest.mark.parametrize("env_id", ["BreakoutNoFrameskip-v4", "ALE/Breakout-v5"])
def test_a_seed_fixes_the_games_whatever_the_number_of_workers(env_id):
    def games(num_workers, seed):
        env = NativeAtariVectorEnv(find_spec(env_id), 3, num_workers=num_workers)
        with contextlib.closing(env):
            observations, _ = env.reset(seed=seed)
            return [[observations], *play(env, 200)]

    one = games(1, seed=0)
    assert_same(one, games(3, seed=0))
    assert any((ours[0] != other[0]).any() for ours, other in zip(one, games(3, seed=100), strict=True))


def test_a_reset_with_the_same_seed_starts_the_same_games_again_and_one_without_goes_on():
    with make_vec_env("BreakoutNoFrameskip-v4", 2, seed=0) as env:
        first = env.reset(seed=5)[0]
        played = play(env, 30)
        np.testing.assert_array_equal(env.reset(seed=5)[0], first)
        assert_same(play(env, 30), played)
        assert (env.reset()[0] != first).any()


@pytest.mark.parametrize("env_id", ["BreakoutNoFrameskip-v4", "ALE/Seaquest-v5"])
def test_a_restored_state_goes_on_to_the_bit_over_deaths_and_game_ends(env_id):
    with make_vec_env(env_id, 2, seed=0) as env, make_vec_env(env_id, 2, seed=7) as other:
        env.reset()
        play(env, 75, seed=1)
        state = env.get_state()
        other.set_state(state)
        expected = play(env, 600)
        assert_same(play(other, 600), expected)
    np.testing.assert_array_equal(state["observation"].shape, (2, 84, 84, 4))
    deaths = sum(step[2].sum() for step in expected)
    games = sum(np.count_nonzero(step[-1]) for step in expected if len(step) > 5 and step[-1].shape == (2,))
    assert deaths > games > 1


def test_the_state_of_another_number_of_games_is_an_error():
    with make_vec_env("PongNoFrameskip-v4", 2, seed=0) as env:
        env.reset()
        state = env.unwrapped.get_state()
        with pytest.raises(ValueError, match="of 1 environments, expected 2"):
            env.unwrapped.set_state({key: array[:1] for key, array in state.items()})


@pytest.mark.parametrize("backend", ["native", "sync"])
@pytest.mark.parametrize(("env_id", "sticky"), [("PongNoFrameskip-v4", False), ("ALE/Pong-v5", True)])
def test_only_ale_ids_have_sticky_actions(env_id, sticky, backend, monkeypatch):
    monkeypatch.setattr(vector, "MAX_NOOPS", 1)  # so that all games start in the same way
    with make_vec_env(env_id, 3, seed=0, backend=backend) as env:
        env.reset()
        for t in range(20):
            observations = env.step(np.full(3, 2 + t % 2))[0]
    assert (len({observation.tobytes() for observation in observations}) > 1) == sticky


def test_rendered_atari_games_use_the_classic_wrappers():
    with make_vec_env("BreakoutNoFrameskip-v4", 1, seed=0, render_mode="rgb_array") as env:
        env.reset()
        env.step(np.array([1]))
        assert env.render()[0].shape == (210, 160, 3)
    with make_vec_env("BreakoutNoFrameskip-v4", 1, seed=0) as env, pytest.raises(NotImplementedError, match="sync"):
        env.render()
    with pytest.raises(UserError, match="not rendered"):
        make_vec_env("BreakoutNoFrameskip-v4", 1, seed=0, render_mode="rgb_array", backend="native")


def test_without_preprocessing_a_game_is_as_it_is_registered():
    with make_vec_env("ALE/Pong-v5", 1, seed=0, atari_preprocessing=False) as env:
        assert env.reset()[0].shape == (1, 210, 160, 3)


def test_a_game_registered_with_a_mode_uses_the_wrappers_that_know_modes():
    gym.register("HardPong-v0", entry_point="ale_py.env:AtariEnv", kwargs={"game": "pong", "mode": 1, "frameskip": 1})
    try:
        with make_vec_env("HardPong-v0", 1, seed=0) as env:
            assert not isinstance(env.unwrapped, NativeAtariVectorEnv)
            assert env.reset()[0].shape == (1, 84, 84, 4)
        with pytest.raises(UserError, match="backend=native"):
            make_vec_env("HardPong-v0", 1, seed=0, backend="native")
    finally:
        del gym.registry["HardPong-v0"]


def test_the_benchmark_prints_both_rates_and_returns_their_ratio(capsys):
    ratio = benchmark.compare("PongNoFrameskip-v4", num_env=2, rounds=1, steps=5, num_threads=1, num_workers=1)
    assert ratio > 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["round 1", "median"]
    assert f"ratio {ratio:.3f}" in lines[-1]


def make_breakout(num_env=3, **kwargs):
    env = NativeAtariVectorEnv(find_spec("BreakoutNoFrameskip-v4"), num_env, num_workers=2, **kwargs)
    env.reset(seed=0)
    return env, env.processes


ACTIONS = np.zeros(3, int)


def test_a_workers_exception_arrives_with_its_traceback_and_index():
    env, processes = make_breakout()
    state = env.get_state()
    state["screen"] = np.zeros((3, 1, 7), np.uint8)
    with pytest.raises(
        RuntimeError,
        match=r"(?s)environment (0 \(seed 0\)|2 \(seed 2\)) raised .*in set_state.*ValueError: could not broadcast",
    ):
        env.set_state(state)
    assert not any(process.is_alive() for process in processes)


def test_a_killed_worker_is_an_error_that_names_its_environments():
    env, processes = make_breakout()
    processes[0].kill()
    with pytest.raises(RuntimeError, match=r"process of environments 0 to 1 \(seeds 0 to 1\) died \(exit code -9\)"):
        env.step(ACTIONS)
    assert not any(process.is_alive() for process in processes)


def test_a_hanging_worker_is_an_error_that_names_its_environment_after_the_timeout():
    env, processes = make_breakout(step_timeout=1.0)
    os.kill(processes[1].pid, signal.SIGSTOP)
    start = time.monotonic()
    with pytest.raises(RuntimeError, match=r"environment 2 \(seed 2\) did not answer within 1 s"):
        env.step(ACTIONS)
    env.close()
    assert time.monotonic() - start < 6.0
    assert not any(process.is_alive() for process in processes)


def test_closing_while_a_worker_hangs_takes_less_than_five_seconds():
    env, processes = make_breakout()
    os.kill(processes[0].pid, signal.SIGSTOP)
    start = time.monotonic()
    env.close()
    env.close()
    assert time.monotonic() - start < 5.0
    assert not any(process.is_alive() for process in processes)


def test_workers_leave_an_interrupt_to_the_parent():
    env, processes = make_breakout()
    with contextlib.closing(env):
        for process in processes:
            os.kill(process.pid, signal.SIGINT)
        env.step(ACTIONS)


def test_closed_environments_leave_no_process_and_no_descriptor_that_of_shared_memory_included():
    def descriptors():
        return len(os.listdir("/proc/self/fd"))

    make_breakout()[0].close()  # starts the servers of multiprocessing, which stay
    before = descriptors()
    for _ in range(10):
        env = make_breakout(num_env=2)[0]
        pids = [process.pid for process in env.processes]
        start = time.monotonic()
        env.close()
        assert time.monotonic() - start < 5.0
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
        assert descriptors() == before


def run_python(*arguments, cwd=ROOT):
    path = os.pathsep.join([str(ROOT), *sys.path])
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )


def test_a_worker_loads_neither_tensorflow_nor_the_main_script(tmp_path):
    loaded = run_python("-c", "import sys, common.vec_env.atari.worker; print(*sys.modules)").stdout.split()
    assert "ale_py" in loaded
    assert not [name for name in loaded if name.split(".")[0] in ("tensorflow", "keras")]
    script = tmp_path / "main.py"
    script.write_text(
        "open('imports', 'a').write('.')\n"
        "from common.vec_env import make_vec_env\n"
        "with make_vec_env('PongNoFrameskip-v4', 2, seed=0) as env:\n"  # no `if __name__ == '__main__'`
        "    print(env.reset()[0].shape)\n"
    )
    done = run_python(script, cwd=tmp_path)
    assert (done.stdout.strip(), done.stderr) == ("(2, 84, 84, 4)", "")
    assert (tmp_path / "imports").read_text() == "."


@pytest.mark.parametrize(("env_id", "backend"), [("PongNoFrameskip-v4", "native"), ("CartPole-v1", "subproc")])
@pytest.mark.parametrize("stopped", [False, True])
def test_no_worker_outlives_a_killed_parent_not_even_one_that_is_stopped(env_id, backend, stopped):
    done = run_python(
        "-c",
        "import os, signal; from common.vec_env import make_vec_env\n"
        f"env = make_vec_env('{env_id}', 2, 0, backend='{backend}'); env.reset()\n"
        "pids = [process.pid for process in env.unwrapped.processes]\n"
        f"if {stopped}: os.kill(pids[0], signal.SIGSTOP)\n"
        "print(*pids, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n",
    )
    pids = done.stdout.split()
    assert pids
    deadline = time.monotonic() + 20
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, f"still running: {alive}"
        time.sleep(0.1)
