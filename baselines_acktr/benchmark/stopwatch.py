"""Measures how the time of an update, with its nested calls, is divided among parts."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any


class Stopwatch:
    """Seconds spent in wrapped functions, by part. Time in a nested wrapped call counts only for the inner part."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Replaces the function `owner.name` by one whose time is added to `part`."""
        function = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            self._inner.append(0.0)
            start = time.perf_counter()

            try:
                return function(*arguments, **options)
            finally:
                elapsed = time.perf_counter() - start
                self.seconds[part] += elapsed - self._inner.pop()
                self._inner[-1] += elapsed

        setattr(owner, name, timed)
