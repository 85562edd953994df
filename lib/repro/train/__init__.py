"""One trainer that fits a whole grid of seeds and settings at once."""

from repro.train.batches import Along, Batch, along
from repro.train.fit import Run, fit
from repro.train.losses import accuracy, cross_entropy, logistic, squared_error
from repro.train.stack import Stack, build_stack

__all__ = [
    "Along", "Batch", "Run", "Stack", "accuracy", "along", "build_stack", "cross_entropy", "fit", "logistic",
    "squared_error",
]  # fmt: skip
