"""A rerun beside the published page: is the new estimate inside the published interval, and is the verdict the same?

``python -m repro.compare RUN [PUBLISHED]`` prints a line a claim. Exit status: 0 the verdicts are the same (or there is
nothing to compare with), 1 one has changed, 2 a notebook cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repro.evidence.render import measured_text
from repro.parameters import OneLineError
from repro.site.runs import Run

Record = Mapping[str, Any]


class CompareError(OneLineError):
    """A notebook that holds no evidence, or evidence on another page."""


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser("python -m repro.compare", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="the executed notebook")
    parser.add_argument("published", type=Path, nargs="?", help="the committed notebook to compare with")
    options = parser.parse_args(arguments)
    try:
        rerun = read_record(options.run)
        published = read_record(options.published) if options.published else None
        print("\n".join(lines(rerun, published)))
    except CompareError as error:
        print(error, file=sys.stderr)
        return 2
    return 1 if published and changed(rerun, published) else 0


def read_record(notebook: Path) -> dict[str, Any]:
    """The evidence record in an executed notebook; raises CompareError where there is none."""
    try:
        content = json.loads(notebook.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CompareError(f"cannot read {notebook}: {error}") from None
    record = Run("", "", "", notebook, notebook, notebook=content).record
    if record is None:
        raise CompareError(f"{notebook} holds no evidence record: was it executed to its end?")
    return record


def lines(rerun: Record, published: Record | None = None) -> list[str]:
    """One line a claim of either; with ``published`` also how its estimate and verdict compare, and a summary.

    Raises CompareError where the two are records of different pages.
    """
    if published is None:
        return [_measured(claim) for claim in rerun["claims"]]
    if rerun["slug"] != published["slug"]:
        raise CompareError(f"the run is of the page {rerun['slug']!r}, the published one of {published['slug']!r}")
    before, after = _by_id(published), _by_id(rerun)
    told = [_line(after.get(name), before.get(name), name) for name in {**before, **after}]
    return [*_settings(rerun, published), *told, _summary(rerun, published)]


def changed(rerun: Record, published: Record) -> list[str]:
    """Ids of the claims whose verdict differs, or that only one of the two has."""
    before, after = _by_id(published), _by_id(rerun)
    return [name for name in {**before, **after} if _verdict(before, name) != _verdict(after, name)]


def inside(claim: Record, published: Record) -> bool | None:
    """Whether the claim's estimate lies inside the published interval; None where either was not measured."""
    if None in (claim.get("estimate"), published.get("estimate")):
        return None
    if published.get("exact"):
        return claim["estimate"] == published["estimate"]
    low, high = published.get("low"), published.get("high")
    if low is None and high is None:
        return None
    return (low is None or low <= claim["estimate"]) and (high is None or claim["estimate"] <= high)


def _by_id(record: Record) -> dict[str, Record]:
    return {claim["id"]: claim for claim in record["claims"]}


def _verdict(claims: Mapping[str, Record], name: str) -> str | None:
    return claims[name]["verdict"] if name in claims else None


def _measured(claim: Record) -> str:
    return f"{claim['id']}: {claim['verdict']}, {measured_text(claim)}, n {claim['n']}"


def _line(claim: Record | None, before: Record | None, name: str) -> str:
    if claim is None:
        return f"{name}: VERDICT CHANGED: published as {before['verdict']}, absent from this run"
    if before is None:
        return f"{_measured(claim)}; VERDICT CHANGED: the published page has no such claim"
    words = {True: "inside the published", False: "OUTSIDE the published", None: "not comparable with the published"}
    line = f"{_measured(claim)}; {words[inside(claim, before)]} {measured_text(before)}"
    same = claim["verdict"] == before["verdict"]
    return line if same else f"{line}; VERDICT CHANGED from {before['verdict']}"


def _settings(rerun: Record, published: Record) -> list[str]:
    """Parameters that differ, so that nobody takes a difference for a failure to reproduce."""
    old, new = published.get("parameters", {}), rerun.get("parameters", {})
    told = [f"{name} {new.get(name, 'absent')} (published {old.get(name, 'absent')})"
            for name in {**old, **new} if old.get(name) != new.get(name)]  # fmt: skip
    return [f"other parameters: {', '.join(told)}"] if told else []


def _summary(rerun: Record, published: Record) -> str:
    before, after = _by_id(published), _by_id(rerun)
    where = [inside(after[name], before[name]) for name in before if name in after]
    measured = [answer for answer in where if answer is not None]
    moved = changed(rerun, published)
    return (f"{sum(measured)} of {len(measured)} estimates inside the published interval; "
            + (f"verdict changed: {', '.join(moved)}" if moved else "no verdict changed"))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
