"""Two small problems on sequences: a transformer that reads text, and an LSTM that reads images row by row."""

from __future__ import annotations

import re
from collections.abc import Callable
from pydoc_data.topics import topics

import keras
import numpy as np

from baselines_acktr.examples.problems import CATEGORICAL, Problem, classification_of_digits

LETTERS = " abcdefghijklmnopqrstuvwxyz"
CONTEXT = 16  # letters that the transformer sees
PIECES = 1024
WIDTH = 32


def _pieces_of_text() -> tuple[np.ndarray, np.ndarray]:
    """Returns pieces of the manual that comes with Python, [N, T], and the letter that follows each, [N, T].

    Letters are numbers, places in LETTERS. Capitals count as small letters, and all between two words as one space.
    """
    manual = re.sub(r"[^a-z]+", " ", " ".join(topics.values()).lower())
    numbers = np.array([LETTERS.index(letter) for letter in manual], np.int64)

    starts = np.random.default_rng(0).integers(0, len(numbers) - CONTEXT, PIECES)  # [N]
    pieces = numbers[starts[:, None] + np.arange(CONTEXT + 1)]  # [N, T + 1]
    return pieces[:, :-1], pieces[:, 1:]


def _transformer(seed: int) -> keras.Model:
    """Builds a transformer of one block with two heads, from letters [B, T] to logits of the next ones, [B, T, K]."""
    keras.utils.set_random_seed(seed)
    layers = keras.layers

    letters = keras.Input((CONTEXT,), dtype="int64")
    places = keras.ops.cumsum(keras.ops.ones_like(letters), axis=1) - 1  # [B, T]
    hidden = layers.Embedding(len(LETTERS), WIDTH)(letters) + layers.Embedding(CONTEXT, WIDTH)(places)  # [B, T, WIDTH]

    seen = layers.LayerNormalization()(hidden)
    hidden = hidden + layers.MultiHeadAttention(2, WIDTH // 2)(seen, seen, use_causal_mask=True)

    seen = layers.LayerNormalization()(hidden)
    hidden = hidden + layers.Dense(WIDTH)(layers.Dense(2 * WIDTH, "gelu")(seen))

    logits = layers.Dense(len(LETTERS))(layers.LayerNormalization()(hidden))
    return keras.Model(letters, logits)


def text() -> Problem:
    """Prediction of the next letter by a small transformer.

    The metric is the cross-entropy of a letter over all pieces, in nats. Guessing by frequency gives 2.84.
    """
    pieces, following = _pieces_of_text()
    return Problem(
        name="text",
        inputs=pieces,
        targets=following,
        family=CATEGORICAL,
        make_model=_transformer,
        batch_size=128,
        metric=CATEGORICAL.loss,
        target=2.2,
        limit=600,
    )


def _lstm(seed: int) -> keras.Model:
    """Builds an LSTM of 32 units, from sequences of 8 rows of pixels [B, 8, 8] to logits of 10 classes [B, 10]."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input((8, 8)), keras.layers.LSTM(32), keras.layers.Dense(10)])


def lstm() -> Problem:
    """Classification of the digits by an LSTM that sees one row of pixels after the other."""
    return classification_of_digits("lstm", (8, 8), _lstm, batch_size=128, target=0.1, limit=600)


SEQUENCES: dict[str, Callable[[], Problem]] = {make.__name__: make for make in (text, lstm)}
