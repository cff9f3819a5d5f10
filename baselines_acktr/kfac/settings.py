"""The settings of `Kfac` that stay as they are from its construction on, checked.

What each of them means is said once, in the documentation of `Kfac`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

from baselines_acktr.kfac.arguments import (
    form_of,
    inverter_of,
    real_number,
    refuse,
    true_or_false,
    whole_number,
    whole_number_or_none,
)


class _Settings:
    """Base of frozen dataclasses whose fields are settings that check themselves."""

    @classmethod
    def names(cls) -> list[str]:
        """The names of all fields, in their order."""
        return [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]

    @classmethod
    def among(cls, arguments: Mapping[str, Any]) -> Self:
        """The settings that some arguments name; the others keep their defaults."""
        return cls(**{name: arguments[name] for name in cls.names() if name in arguments})

    def _set(self, **checked: Any) -> None:
        """Replaces what was given by what was made of it."""
        for name, value in checked.items():
            object.__setattr__(self, name, value)


@dataclasses.dataclass(frozen=True)
class StepSettings(_Settings):
    """How a step is chosen with the batch's exact Fisher, and how the damping is adapted."""

    iterations: int = 2
    blend: float = 0.0
    damping_interval: int | None = 5
    min_damping: float = 1e-5
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self._set(
            iterations=whole_number("iterations", self.iterations, 1),
            blend=real_number("blend", self.blend, minimum=0, below=1),
            damping_interval=whole_number_or_none("damping_interval", self.damping_interval),
            min_damping=real_number("min_damping", self.min_damping, minimum=0),
            weight_decay=real_number("weight_decay", self.weight_decay or 0.0, minimum=0),
        )


@dataclasses.dataclass(frozen=True)
class CurvatureSettings(_Settings):
    """How the Kronecker factors are estimated, and how and where they are inverted.

    A form or an inverter may be given by its name, or as None for the default; the fields then hold the object itself.
    """

    decay: float = 0.95
    factor_interval: int = 1
    inverse_interval: int = 1
    max_sites: int | None = None
    form: Any = None
    inverter: Any = None
    strict: bool = False
    diagonal: Sequence[str] = ()

    def __post_init__(self) -> None:
        self._set(
            factor_interval=whole_number("factor_interval", self.factor_interval, 1),
            inverse_interval=whole_number("inverse_interval", self.inverse_interval, 1),
            max_sites=whole_number_or_none("max_sites", self.max_sites),
            form=form_of(self.form),
            inverter=inverter_of(self.inverter),
        )


@dataclasses.dataclass(frozen=True)
class AverageSettings(_Settings):
    """Running averages of the weights, as Keras' optimizers keep them."""

    use_ema: bool = False
    ema_momentum: float = 0.99
    ema_overwrite_frequency: int | None = None

    def __post_init__(self) -> None:
        self._set(
            use_ema=true_or_false("use_ema", self.use_ema),
            ema_momentum=real_number("ema_momentum", self.ema_momentum, minimum=0, below=1),
            ema_overwrite_frequency=whole_number_or_none("ema_overwrite_frequency", self.ema_overwrite_frequency),
        )


def settings_from(
    arguments: Mapping[str, Any], others: Sequence[str]
) -> tuple[StepSettings, CurvatureSettings, AverageSettings]:
    """Checks the settings among the arguments of `Kfac`.

    Args:
      arguments: {name: value}, as the user gave them.
      others: names of the arguments that are no settings, for the message.

    Raises:
      TypeError: a name that there is not, with what to use instead.
      ValueError: a value that is not allowed.
    """
    kinds = StepSettings, CurvatureSettings, AverageSettings
    known = [name for kind in kinds for name in kind.names()]
    refuse({name: value for name, value in arguments.items() if name not in known}, [*others, *known])
    return StepSettings.among(arguments), CurvatureSettings.among(arguments), AverageSettings.among(arguments)
