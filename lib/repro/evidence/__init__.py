"""Claims, intervals, verdicts, and the record a page leaves behind.

A page declares claims with criteria fixed before the run, judges each on one effect per independently drawn unit, and
leaves a record of MIME type ``application/vnd.repro.evidence+json``. A verdict is computed, never typed.
"""

from repro.evidence.compound import every, ordered, versions
from repro.evidence.criteria import above, below, between, exactly, share, within
from repro.evidence.intervals import EvidenceError, Interval, jackknife, spearman
from repro.evidence.page import MIME, Page
from repro.evidence.record import validate_record

__all__ = [
    "MIME",
    "EvidenceError",
    "Interval",
    "Page",
    "above",
    "below",
    "between",
    "every",
    "exactly",
    "jackknife",
    "ordered",
    "share",
    "spearman",
    "validate_record",
    "versions",
    "within",
]
