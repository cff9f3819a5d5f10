"""Arguments of the optimizer as people write them, checked: every mistake is one line that says what is allowed."""

from __future__ import annotations

import contextlib
import math
import numbers
import re
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from baselines_acktr.kfac.forms import CholeskyForm, EigenForm, Form
from baselines_acktr.kfac.inverses import INVERTERS, Inverter

FORMS: dict[str, type[Form]] = {"cholesky": CholeskyForm, "eigen": EigenForm}

# Arguments of Keras' optimizers that K-FAC does not have, and what to do instead.
INSTEAD = {
    "clipnorm": "a step's length is bounded by delta and learning_rate",
    "clipvalue": "a step's length is bounded by delta and learning_rate",
    "global_clipnorm": "a step's length is bounded by delta and learning_rate",
    "gradient_accumulation_steps": "K-FAC's step is of one batch: make the batches larger",
    "loss_scale_factor": "K-FAC does not scale the loss: use mixed_bfloat16",
    "epsilon": "its part is played by damping",
    "beta_1": "its part is played by momentum",
    "beta_2": "its part is played by decay",
    "nesterov": "the exact quadratic model chooses the part of the last step",
    "name": "an optimizer needs none here",
}


def refuse(unknown: Mapping[str, Any], known: list[str]) -> None:
    """Raises a TypeError that names the first unknown argument, if there is one, and what to use instead.

    Args:
      unknown: {name: value} of the arguments that K-FAC does not have.
      known: the names of those that it has.
    """
    for name, value in unknown.items():
        reason = INSTEAD.get(name, f"there is no such argument; must be one of {', '.join(known)}")
        raise TypeError(f"{name}={value!r}: {reason}")


def refuse_replicas(model: keras.Model) -> None:
    """Raises a ValueError that names a strategy under which a model has replicas in this process."""
    strategy = model.distribute_strategy
    mirrored = [v for v in model.trainable_variables if isinstance(v.value, tf.distribute.DistributedValues)]
    if mirrored or strategy.num_replicas_in_sync > 1:
        raise ValueError(
            f"{type(strategy).__name__}: K-FAC trains one copy of a model in a process; must be OneDeviceStrategy or "
            "none, or one process for each part of a batch (docs/distributed.md)"
        )


def form_of(value: Any) -> Form:
    """The form that an argument `form` stands for: one itself, its name, or None for the default."""
    if value is None:
        return CholeskyForm()
    if isinstance(value, str) and value in FORMS:
        return FORMS[value]()
    if isinstance(value, Form):
        return value
    raise _wrong("form", value, f"{_names(FORMS)}, CholeskyForm() or EigenForm(rank)")


def inverter_of(value: Any) -> Inverter:
    """The inverter that an argument `inverter` stands for: one itself, its name, or None for the default."""
    if value is None:
        return INVERTERS["background"]()
    if isinstance(value, str) and value in INVERTERS:
        return INVERTERS[value]()
    if isinstance(value, Inverter):
        return value
    raise _wrong("inverter", value, f"{_names(INVERTERS)}, BackgroundInverter() or InlineInverter()")


def whole_number(name: str, value: Any, minimum: int) -> int:
    """An argument that must be a whole number of at least `minimum`."""
    is_whole = isinstance(value, numbers.Real) and not isinstance(value, bool) and float(value).is_integer()
    if not is_whole or value < minimum:
        raise _wrong(name, value, f"a whole number, at least {minimum}")
    return int(value)


def whole_number_or_none(name: str, value: Any) -> int | None:
    """An argument that may be a whole number of at least 1, or None; 0 says the same as None."""
    if value is None:
        return None
    try:
        return whole_number(name, value, 0) or None
    except ValueError:
        raise _wrong(name, value, "a whole number, at least 1, or None") from None


def real_number(name: str, value: Any, minimum: float = -math.inf, below: float = math.inf) -> float:
    """An argument that must be a finite number of at least `minimum` and below `below`."""
    is_real = isinstance(value, numbers.Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_real or not minimum <= value < below:
        limits = f"at least {minimum:g}" if below == math.inf else f"at least {minimum:g} and below {below:g}"
        raise _wrong(name, value, f"a finite number, {limits}")
    return float(value)


def true_or_false(name: str, value: Any) -> bool:
    """An argument that must be True or False."""
    if not isinstance(value, bool | np.bool_):
        raise _wrong(name, value, "True or False")
    return bool(value)


def seed_of(value: Any) -> int:
    """An argument `seed`; None draws one, as Keras' optimizers do."""
    if value is None:
        return int(keras.random.randint((), 0, 2**31 - 1))
    return whole_number("seed", value, 0)


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Within the context TensorFlow's error about a label out of range comes as one line."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = re.search(r"Received a label value of .*? range of \[[^\])]*[\])]", str(error))
        if found is None:
            raise
        raise ValueError(f"targets: {found[0]}") from error


def _names(table: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in table)


def _wrong(name: str, value: Any, allowed: str) -> ValueError:
    return ValueError(f"{name}={value!r}: must be {allowed}")
