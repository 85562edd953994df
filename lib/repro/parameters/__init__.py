"""A page's parameters: declared in one cell, checked before a kernel starts and again inside the notebook."""

from repro.parameters.declare import (
    OneLineError,
    Parameter,
    ParameterError,
    declared,
    declared_in,
    read_overrides,
    require_known,
    validate,
)
from repro.parameters.live import THREAD_VARIABLES, Current, check_parameters, current, scale, set_threads

__all__ = [
    "THREAD_VARIABLES",
    "Current",
    "OneLineError",
    "Parameter",
    "ParameterError",
    "check_parameters",
    "current",
    "declared",
    "declared_in",
    "read_overrides",
    "require_known",
    "scale",
    "set_threads",
    "validate",
]
