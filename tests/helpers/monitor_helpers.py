"""Monitor files for tests."""

from __future__ import annotations

from pathlib import Path


def monitor(folder: Path, index: int, games: list[tuple[float, int, float]], start: float = 1000.0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f'# {{"t_start": {start}, "env_id": "X"}}', "r,l,t", *(f"{r},{n},{t}" for r, n, t in games)]
    (folder / f"0.{index}.monitor.csv").write_text("\n".join(lines) + "\n")
