"""Tests of replaying, with a stub model and a stub environment."""

from __future__ import annotations

import contextlib

import gymnasium as gym
import imageio.v2
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from baselines_acktr.play import TrainingVideos, play, record, require_frames, tile
from common.errors import UserError
from common.vec_env.rendering import has_display
from common.vec_env.wrappers import EpisodeInfo


class Countdown(gym.Env):
    """A game of `length` steps whose every step scores the action; frames of 10 x 15 pixels show the time."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}  # noqa: RUF012
    observation_space = gym.spaces.Box(0, 100, (1,), np.float32)
    action_space = gym.spaces.Discrete(3)

    def __init__(self, length: int = 3, missing: bool = False) -> None:
        self.render_mode = "rgb_array"
        self.length, self.missing = length, missing

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.time += 1
        return np.full(1, self.time, np.float32), float(action), self.time == self.length, False, {}

    def render(self):
        if self.missing:
            raise gym.error.DependencyNotInstalled("pygame is not installed")
        return np.full((10, 15, 3), 40 * self.time, np.uint8)


def make(*lengths: int, **options) -> gym.vector.VectorEnv:
    envs = [lambda n=n: gym.wrappers.RecordEpisodeStatistics(Countdown(n, **options)) for n in lengths]
    return EpisodeInfo(SyncVectorEnv(envs, autoreset_mode=AutoresetMode.SAME_STEP))


class Stub:
    """Plays 2 greedily and 1 otherwise."""

    def step(self, observations, deterministic=False, state=None, episode_start=None):
        return np.full(len(observations), 2 if deterministic else 1), None, None, None


def test_environments_that_keep_their_own_statistics_are_played_others_are_refused(capsys):
    def vector(wrap, mode=AutoresetMode.SAME_STEP):
        return SyncVectorEnv([lambda: wrap(Countdown(2))] * 2, autoreset_mode=mode)

    assert play(Stub(), vector(gym.wrappers.RecordEpisodeStatistics)) == [(2, 2), (2, 2)]
    with pytest.raises(UserError, match=r"env: .* wrap it in gymnasium\.wrappers\.vector\.RecordEpisodeStatistics"):
        play(Stub(), vector(lambda env: env))
    with pytest.raises(UserError, match="autoreset mode is"):
        play(Stub(), vector(gym.wrappers.RecordEpisodeStatistics, AutoresetMode.NEXT_STEP))
    with pytest.raises(UserError, match="must be a vector environment"):
        play(Stub(), Countdown())


class Counting:
    """Remembers how many steps the episode has had, and notes it."""

    def __init__(self) -> None:
        self.counts: list[list[int]] = []

    def step(self, observations, deterministic=False, state=None, episode_start=None):
        count = np.zeros(len(observations), int) if state is None else np.where(episode_start, 0, state + 1)
        self.counts.append(count.tolist())
        return np.ones(len(observations), int), None, count, None


def test_a_model_that_remembers_is_told_its_state_and_where_episodes_start():
    model = Counting()
    play(model, make(2, 3), episodes=4)
    assert model.counts == [[0, 0], [1, 1], [0, 2], [1, 0], [0, 1], [1, 2]]


class Broken:
    """Fails at the third step."""

    steps = 0

    def step(self, observations, deterministic=False, state=None, episode_start=None):
        self.steps += 1
        if self.steps == 3:
            raise RuntimeError("no")
        return np.zeros(len(observations), int), None, None, None


def test_scores_and_lengths_are_the_games_own_and_the_mean_comes_last(capsys):
    played = play(Stub(), make(3), seed=0, episodes=2)
    assert played == [(3, 3), (3, 3)]
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["episode 1: score 3, length 3", "episode 2: score 3, length 3", "mean of 2: score 3, length 3"]


def test_greedy_takes_the_most_likely_action():
    assert play(Stub(), make(3), seed=0, greedy=True) == [(6, 3)]


def test_by_default_every_environment_plays_one_game():
    assert sorted(game.length for game in play(Stub(), make(2, 5, 3), seed=0)) == [2, 3, 5]


def test_games_are_shared_out_so_that_short_ones_are_not_favoured():
    lengths = [game.length for game in play(Stub(), make(1, 10), seed=0, episodes=5)]
    assert sorted(lengths) == [1, 1, 1, 10, 10]


def test_fewer_games_than_environments_are_played_in_the_first_ones():
    assert play(Stub(), make(2, 9, 9), seed=0, episodes=1) == [(2, 2)]


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_video_holds_every_frame(tmp_path, suffix):
    path = tmp_path / "new" / f"game{suffix}"
    play(Stub(), make(3), seed=0, video=str(path))
    frames = imageio.v2.mimread(path)
    assert len(frames) == 4
    assert frames[0].shape[:2] == (20, 30)
    assert [int(round(float(frame[..., 0].mean()), -1)) for frame in frames[:3]] == [0, 40, 80]
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_environments_are_shown_side_by_side():
    frames = [np.full((201, 160, 3), value, np.uint8) for value in (1, 2, 3)]
    grid = tile(frames)
    assert grid.shape == (402, 320, 3)
    assert (grid[0, 0, 0], grid[0, 160, 0], grid[201, 0, 0], grid[201, 160, 0]) == (1, 2, 3, 0)


@pytest.mark.parametrize("shape", [(301, 401), (7, 9)])
def test_frames_have_even_sides_as_mp4_needs(shape):
    assert tile([np.zeros((*shape, 3), np.uint8)]).shape[0] % 2 == 0
    assert tile([np.zeros((*shape, 3), np.uint8)]).shape[1] % 2 == 0


def test_a_replay_that_fails_leaves_the_old_video_and_no_half_one(tmp_path):
    path = tmp_path / "game.gif"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError):
        play(Broken(), make(9), seed=0, video=str(path))
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["game.gif"]


def test_another_suffix_is_refused():
    with pytest.raises(UserError, match=r"--video=game\.avi: must end in \.mp4 or \.gif"):
        play(Stub(), make(3), seed=0, video="game.avi")


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--video=.*cannot be written"):
        play(Stub(), make(3), seed=0, video=str(tmp_path / "file" / "game.gif"))


def test_a_missing_graphics_package_is_a_users_error():
    with pytest.raises(UserError, match=r"pygame is not installed, or here pip install '\.\[classic-control\]'"):
        require_frames(make(3, missing=True))
    require_frames(make(3))


def test_a_recording_has_the_given_length_across_games(tmp_path):
    record(Stub(), make(3), 0, tmp_path / "clip.gif", length=7)
    assert len(imageio.v2.mimread(tmp_path / "clip.gif")) >= 4  # equal neighbours are merged by the GIF writer


def test_training_videos_come_at_every_multiple_of_the_interval(tmp_path):
    videos = TrainingVideos(lambda: make(3), tmp_path, interval=1000, length=2, start=640)
    for timesteps in range(1280, 4480, 640):
        videos.maybe(Stub(), timesteps, seed=0, greedy=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"step-{n:08d}.mp4" for n in (1280, 2560, 3200)]


def test_no_interval_means_no_videos(tmp_path):
    TrainingVideos(lambda: pytest.fail("opened"), tmp_path, 0, 2).maybe(Stub(), 10**6, 0, False)


def test_a_display_is_found_by_its_variable(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_display()
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_display()


def test_stub_environments_keep_the_contract():
    with contextlib.closing(make(2)) as env:
        env.reset(seed=0)
        infos = [env.step(np.array([1]))[-1] for _ in range(2)]
    assert "episode" not in infos[0]
    assert infos[1]["episode"]["r"][0] == 2
