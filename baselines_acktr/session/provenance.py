"""What a run says at its start of the settings that come from a file."""

from __future__ import annotations

from typing import Any

from baselines_acktr.session.settings import Settings


def from_config_file(settings: Settings) -> str | None:
    """Returns a line with the flags that the file of `--config` has set; None if there are none."""
    values = settings.values()
    names = [name for name, origin in settings.origins.items() if origin == "config file"]
    if not names:
        return None
    return f"from {settings.options.config}: " + " ".join(f"--{name}={_typed(values[name])}" for name in names)


def _typed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
