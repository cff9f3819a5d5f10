"""How the time of nested calls divides over parts."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any


class Stopwatch:
    """Seconds spent in wrapped functions, by part; a part's time does not count for the one that called it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def wrap(self, owner: Any, name: str, part: str) -> None:
        """Counts the time of `owner.name` for `part`."""
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
