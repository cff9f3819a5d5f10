"""Observations of several kinds, images among them, side by side in one vector that knows its parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from common.errors import UserError, brief

_SMALLEST_PICTURE = 36  # pixels; the convolutions of the cnn do not fit into smaller images
MOST_CHANNELS = 16  # in a first axis that is taken for that of channels
_KINDS = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


class Part(NamedTuple):
    """One kind of what an observation consists of.

    Attributes:
      path: keys of `Dict` spaces, and places in `Tuple` spaces, that lead to it from the whole observation.
      space: a Box, Discrete, MultiDiscrete or MultiBinary.
    """

    path: tuple[str | int, ...]
    space: gym.Space

    @property
    def name(self) -> str:
        """Its path, for people; empty for an observation that has no parts."""
        return ".".join(map(str, self.path))

    @property
    def size(self) -> int:
        """How many numbers it has; categories are one-hot."""
        return spaces.flatdim(self.space)

    @property
    def image(self) -> tuple[int, ...] | None:
        """Its shape [H, W, C] where convolutions look at it; None for a vector."""
        return image_shape(self.space.shape, self.space.dtype) if isinstance(self.space, spaces.Box) else None


class JoinedBox(spaces.Box):
    """Vectors float32 [D] that hold the parts of an observation in the order of `gymnasium.spaces.flatten`.

    Attributes:
      parts: what the numbers belong to, in their order.

    Raises:
      UserError: a part is of a kind that no network can encode, naming it.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        for part in self.parts:
            require_kind(part)
        boxes: list[Any] = [spaces.flatten_space(part.space) for part in self.parts]
        low, high = (np.concatenate([getattr(box, end) for box in boxes]) for end in ("low", "high"))
        super().__init__(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, JoinedBox) and self.parts == other.parts

    def __repr__(self) -> str:
        return f"JoinedBox({', '.join(f'{part.name}: {part.space}' for part in self.parts)})"

    @property
    def is_tuple(self) -> bool:
        """Whether the environment gives its observations as tuples, not as dicts."""
        return isinstance(self.parts[0].path[0], int)

    @property
    def columns(self) -> list[slice]:
        """Where each part is in the vector."""
        ends = np.cumsum([part.size for part in self.parts]).tolist()
        return [slice(end - part.size, end) for end, part in zip(ends, self.parts, strict=True)]

    @property
    def is_vector(self) -> np.ndarray:
        """Which numbers are not those of an image, bool [D]."""
        return np.concatenate([np.full(part.size, part.image is None) for part in self.parts])

    def join(self, observation: Any) -> tuple[np.ndarray, bool]:
        """An observation as the environment gives it, or a batch of them, as a batch of vectors.

        Args:
          observation: a dict or tuple of the parts, each of its space's shape, or [N, ...].

        Returns:
          Vectors float32 [N, D], and whether it was one observation alone.

        Raises:
          UserError: a part is missing, or of another shape, naming it.
        """
        found = [_found(observation, part) for part in self.parts]  # [...] or [N, ...] each
        alone = found[0].shape == self.parts[0].space.shape
        columns = [_rows(value[None] if alone else value, part) for value, part in zip(found, self.parts, strict=True)]
        if len({len(column) for column in columns}) > 1:
            raise UserError(f"observation: its parts are batches of {', '.join(str(len(one)) for one in columns)}")
        return np.concatenate(columns, axis=1), alone


def image_shape(shape: tuple[int, ...], dtype: Any) -> tuple[int, ...] | None:
    """The shape [H, W, C] of a part of an observation that is an image, large enough for the network `cnn`; else None.

    Those are numbers [H, W, C] and gray bytes [H, W]. Images with the channels first count too: networks refuse them.
    """
    if len(shape) == 2 and dtype == np.uint8:
        shape = (*shape, 1)
    if len(shape) != 3:
        return None
    has_channels_first = shape[0] <= MOST_CHANNELS < shape[2]
    sides = shape[1:] if has_channels_first else shape[:2]
    return shape if min(sides) >= _SMALLEST_PICTURE else None


def is_picture(space: gym.Space) -> bool:
    """Whether a space holds gray images `[H, W]` of bytes that are large enough for the network `cnn`."""
    return isinstance(space, spaces.Box) and len(space.shape) == 2 and image_shape(space.shape, space.dtype) is not None


def parts_of(space: gym.Space, path: tuple[str | int, ...] = ()) -> Iterator[Part]:
    """The parts of a `Dict` or `Tuple` at any depth, in the order of `gymnasium.spaces.flatten`; else the space."""
    if isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():
            yield from parts_of(part, (*path, key))
    elif isinstance(space, spaces.Tuple):
        for place, part in enumerate(space.spaces):
            yield from parts_of(part, (*path, place))
    else:
        yield Part(path, space)


def as_array(value: Any) -> np.ndarray | None:
    """A value as an array; None where its rows are of several lengths."""
    try:
        return np.asarray(value)
    except ValueError:
        return None


def require_kind(part: Part) -> None:
    """Raises UserError for a part that has no vector of a fixed meaning."""
    if not isinstance(part.space, _KINDS):
        raise UserError(
            f"observation {part.name or 'space'}: no network can encode a {brief(part.space)}; must be Box, Discrete, "
            "MultiDiscrete or MultiBinary (gymnasium.wrappers.FilterObservation leaves a part out)"
        )


def _found(observation: Any, part: Part) -> np.ndarray:
    """What an observation has for a part."""
    value = observation
    for key in part.path:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError) as error:
            given = list(observation) if isinstance(observation, Mapping) else type(observation).__name__
            raise UserError(f"observation: has no part {part.name}, got {brief(given)}") from error
    found = as_array(value)
    if found is None:
        raise UserError(f"observation {part.name}: its rows are of several lengths, got {brief(value)}")
    return found


def _rows(batch: np.ndarray, part: Part) -> np.ndarray:
    """Values [N, ...] of a part as vectors float32 [N, D]."""
    if batch.shape[1:] != part.space.shape or batch.dtype.kind not in "biuf":
        raise UserError(
            f"observation {part.name}: must be numbers of shape {part.space.shape}, or a batch of such, got shape "
            f"{batch.shape[1:]}"
        )
    if isinstance(part.space, spaces.Box | spaces.MultiBinary):
        return batch.reshape(len(batch), part.size).astype(np.float32)
    return np.stack([np.asarray(spaces.flatten(part.space, value), np.float32) for value in batch])
