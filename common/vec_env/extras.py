"""The extras of this project that bring what some environments need."""

from __future__ import annotations

EXTRAS = {"pygame": "classic-control", "Box2D": "box2d"}  # package -> extra


def or_extra(reason: str) -> str:
    """Names the extra that brings the package of which an error says that it is missing; "" where there is none."""
    return next((f", or here pip install '.[{extra}]'" for package, extra in EXTRAS.items() if package in reason), "")
