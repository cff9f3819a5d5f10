"""Claims about how a worker process shares the games of one step between its two threads."""

from __future__ import annotations

import threading

import pytest

from common.vec_env.atari.worker import _Games


class FakeGame:
    """A game whose episode may end with the next step.

    Args:
      calls: where its calls are noted, with the thread that made them.
      ends: whether the episode ends.
      waits_for: what the start of the next episode waits for.
      says: what is set once this game was stepped.
    """

    def __init__(self, calls, name, ends=False, waits_for=None, says=None, error=None) -> None:
        self.calls, self.name, self.ends = calls, name, ends
        self.waits_for, self.says, self.error = waits_for, says, error

    def step(self) -> bool:
        self.calls.append(("step", self.name, threading.get_ident()))
        if self.says is not None:
            self.says.set()
        return self.ends

    def begin_episode(self) -> None:
        if self.waits_for is not None and not self.waits_for.wait(30):
            raise TimeoutError("the games after this one were not stepped")
        if self.error is not None:
            raise self.error
        self.calls.append(("begin", self.name, threading.get_ident()))


def test_a_worker_steps_its_other_games_while_one_starts_an_episode():
    calls: list[tuple[str, str, int]] = []
    stepped = threading.Event()
    games = [FakeGame(calls, "a", ends=True, waits_for=stepped), FakeGame(calls, "b"), FakeGame(calls, "c")]
    games[2].says = stepped
    _Games([4, 5, 6], games).step()
    assert [call[:2] for call in calls] == [("step", "a"), ("step", "b"), ("step", "c"), ("begin", "a")]
    assert calls[3][2] != calls[0][2]


def test_what_the_helper_has_not_come_to_the_worker_does_itself():
    calls: list[tuple[str, str, int]] = []
    done = threading.Event()
    games = [FakeGame(calls, name, ends=True) for name in "abc"]
    games[0].waits_for = done  # keeps the helper busy until the last one has been started
    games[1].begin_episode = lambda: (calls.append(("begin", "b", threading.get_ident())), done.set())
    _Games([0, 1, 2], games).step()
    assert sorted(call[:2] for call in calls) == sorted((verb, name) for verb in ("step", "begin") for name in "abc")
    threads = {name: thread for verb, name, thread in calls if verb == "begin"}
    assert threads["b"] == threads["c"] == threading.get_ident() != threads["a"]


def test_a_step_ends_with_all_episodes_started_each_once():
    calls: list[tuple[str, str, int]] = []
    games = _Games(range(9), [FakeGame(calls, str(i), ends=i % 2 == 0) for i in range(9)])
    for _ in range(200):
        calls.clear()
        games.step()
        assert sorted(name for verb, name, _ in calls if verb == "begin") == ["0", "2", "4", "6", "8"]


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_a_game_that_cannot_start_is_named_whichever_thread_found_out(failing):
    calls: list[tuple[str, str, int]] = []
    games = [FakeGame(calls, name, ends=True) for name in "abc"]
    games[failing].error = ZeroDivisionError("broken")
    worker = _Games([3, 4, 5], games)
    with pytest.raises(ZeroDivisionError, match="broken"):
        worker.step()
    assert worker.current == f"environment {3 + failing}"
