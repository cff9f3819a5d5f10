"""Claims about Atari games: the rules of Baselines, and the native backend against the classic wrappers."""

from __future__ import annotations

import contextlib
from collections import Counter

import gymnasium as gym
import numpy as np
import pytest

from common.errors import UserError
from common.vec_env import atari, atari_wrappers, benchmark, make_vec_env
from common.vec_env.atari import NativeAtariVectorEnv
from common.vec_env.ids import find_spec

SEED = 11


class RecordedNoops:
    """Stands in for a random generator that draws the numbers of no-ops which the native games started with."""

    def __init__(self) -> None:
        self.noops: list[int] = []

    def integers(self, low: int, high: int) -> int:
        assert low <= self.noops[0] < high
        return self.noops.pop(0)


def aligned_environments(env_id, num_env, monkeypatch):
    """Returns the native and the classic environment with the same emulator seeds and numbers of no-ops."""
    native = make_vec_env(env_id, num_env, seed=SEED)
    classic = make_vec_env(env_id, num_env, seed=None, backend="sync")
    recorders = {}
    for i, (game, env) in enumerate(zip(native.unwrapped._games, classic.unwrapped.envs, strict=True)):
        recorders[game] = env.unwrapped.np_random = RecordedNoops()
        env.unwrapped.ale.setInt("random_seed", SEED + i)
        env.unwrapped.load_game()
    new_game = atari._Game._new_game

    def recorded(game, frame, info):
        new_game(game, frame, info)
        recorders[game].noops.append(game.noops)

    monkeypatch.setattr(atari._Game, "_new_game", recorded)
    return native, classic


def assert_same_infos(native, classic):
    np.testing.assert_array_equal(native["lives"], classic["lives"])
    for key in ("final_obs", "episode"):
        assert (key in native) == (key in classic)
        if key in native:
            np.testing.assert_array_equal(native[f"_{key}"], classic[f"_{key}"])
    for i in np.flatnonzero(native.get("_final_obs", ())):
        np.testing.assert_array_equal(native["final_obs"][i], classic["final_obs"][i])
    for i in np.flatnonzero(native.get("_episode", ())):
        for key in ("r", "l"):
            assert native["episode"][key][i] == classic["episode"][key][i]


@pytest.mark.parametrize("game", ["Breakout", "Pong", "Seaquest", "SpaceInvaders", "MsPacman"])
def test_native_and_classic_games_agree_frame_by_frame(game, monkeypatch):
    native, classic = aligned_environments(f"{game}NoFrameskip-v4", 2, monkeypatch)
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
    """Plays a list of `(lives, game over)`, one for each step, as an emulator of ale-py or as an environment.

    Attributes:
      played: the actions of the steps; a new game is `"new"`.
    """

    observation_space = gym.spaces.Box(0, 255, (84, 84), np.uint8)
    action_space = gym.spaces.Discrete(3)

    def __init__(self, results: list[tuple[int, bool]]) -> None:
        self.results = results
        self.played: list[int | str] = []
        self._over = False

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        self.played.append("new")
        self._over = False
        return np.zeros((84, 84), np.uint8), {"lives": 3}

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.played.append(action)
        lives, self._over = self.results.pop(0)
        return np.zeros((84, 84), np.uint8), 0.0, self._over, False, {"lives": lives}

    def send(self, action: np.ndarray, strength: np.ndarray) -> None:
        if self._over:
            frame, info = self.reset()
            result = (frame, 0, False, False, info)
        else:
            result = self.step(int(action[0]))
        self._result = [np.array([value]) for value in (result[0][None], *result[1:4])]
        self._info = {"lives": np.array([result[4]["lives"]]), "episode_frame_number": np.array([1])}

    def recv(self) -> tuple:
        return (*self._result, self._info)


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
    emulator = FakeEmulator(list(results))
    if backend == "native":
        game = atari._Game(find_spec("BreakoutNoFrameskip-v4"), atari.MAX_FRAMES)
        game.start(0)
        while not game.is_ready():
            game.continue_reset()
        monkeypatch.setattr(game, "_native", emulator)
        game.lives = 3
        for action in (2, 1):
            game.send(action)
            game.receive()
            if game.over or game.life_lost:
                break
        game.begin_reset()
        while not game.is_ready():
            game.continue_reset()
    else:
        env = atari_wrappers.FireReset(atari_wrappers.EpisodicLife(emulator))
        emulator.results = [(3, False), (3, False), *results]
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


def test_noop_starts_are_uniform_from_1_to_30():
    game = atari._Game(find_spec("PongNoFrameskip-v4"), atari.MAX_FRAMES)
    counts = Counter()
    for _ in range(300):
        game._new_game(*game._force_reset(-1))
        counts[game.noops] += 1
    assert set(counts) <= set(range(1, 31))
    chi_squared = sum((counts[n] - 10) ** 2 / 10 for n in range(1, 31))
    assert chi_squared < 58.3  # the 0.999 quantile for 29 degrees of freedom


def test_the_frame_limit_truncates_and_the_next_game_starts():
    env = NativeAtariVectorEnv(find_spec("PongNoFrameskip-v4"), 2, max_frames=40)
    with contextlib.closing(env):
        env.reset(seed=0)
        for _ in range(3):
            for _ in range(7):  # 40 frames are 10 steps, 2 of them those that start the game
                assert not env.step(np.zeros(2, int))[3].any()
            observations, _, terminations, truncations, infos = env.step(np.zeros(2, int))
            assert truncations.tolist() == [True, True]
            assert not terminations.any()
            assert infos["_final_obs"].tolist() == infos["_episode"].tolist() == [True, True]
            assert infos["episode"]["l"].tolist() == [10, 10]
            assert not observations[..., :-1].any()


@pytest.mark.parametrize("max_frames", [4, 8])
def test_a_game_that_ends_during_its_own_reset_steps_is_counted_and_followed_by_the_next(max_frames):
    env = NativeAtariVectorEnv(find_spec("BreakoutNoFrameskip-v4"), 1, max_frames=max_frames)
    with contextlib.closing(env):
        _, infos = env.reset(seed=0)
        assert infos["episode"]["l"].tolist() == [max_frames // 4]
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


def test_the_same_seed_gives_the_same_games_and_another_seed_does_not():
    def play(seed):
        with make_vec_env("BreakoutNoFrameskip-v4", 2, seed=seed) as env:
            env.reset()
            return [env.step(np.full(2, 2 + t % 2))[0] for t in range(60)]

    first = play(0)
    np.testing.assert_array_equal(first, play(0))
    assert any((one != other).any() for one, other in zip(first, play(100), strict=True))


@pytest.mark.parametrize("backend", ["native", "sync"])
@pytest.mark.parametrize(("env_id", "sticky"), [("PongNoFrameskip-v4", False), ("ALE/Pong-v5", True)])
def test_only_ale_ids_have_sticky_actions(env_id, sticky, backend, monkeypatch):
    monkeypatch.setattr(atari, "MAX_NOOPS", 1)  # so that all games start in the same way
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
    ratio = benchmark.compare("PongNoFrameskip-v4", num_env=2, rounds=1, steps=5, num_threads=1)
    assert ratio > 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["round 1", "median"]
    assert f"ratio {ratio:.3f}" in lines[-1]
