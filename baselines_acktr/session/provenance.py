"""What a run says at its start of settings that are neither defaults nor typed."""

from __future__ import annotations

from typing import Any

from baselines_acktr.session.settings import Settings
from baselines_acktr.session.tuned import tuned_for


def sources(settings: Settings) -> list[str]:
    """Returns a line each for the settings that suit the environment and for those of the file of --config."""
    values = settings.values()
    lines = []
    suiting = tuned_for(settings.options.alg, settings.env)
    if suiting and (flags := _flags(settings, values, "tuned")):
        lines.append(f"tuned for {settings.env} ({suiting.source}; --tuned=false takes the defaults): {flags}")
    if flags := _flags(settings, values, "config file"):
        lines.append(f"from {settings.options.config}: {flags}")
    return lines


def _flags(settings: Settings, values: dict[str, Any], origin: str) -> str:
    names = [name for name, source in settings.origins.items() if source == origin]
    return " ".join(f"--{name}={_typed(values[name])}" for name in names)


def _typed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
