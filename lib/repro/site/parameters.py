"""A run's parameters beside the page's defaults: as a table for its page, and as what its command must say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

from repro.parameters import Parameter, ParameterError, declared, read_overrides
from repro.site.runs import Run


def parameters(run: Run) -> dict[str, Parameter]:
    """What the notebook declares; empty where it has no readable parameters cell (the anatomy tests name such)."""
    try:
        return declared(run.notebook)
    except ParameterError:
        return {}


def values(run: Run) -> dict[str, Any]:
    """What the run used, by its record; the defaults where it left none."""
    recorded = (run.record or {}).get("parameters", {})
    return {name: recorded.get(name, parameter.default) for name, parameter in parameters(run).items()}


def overrides(run: Run) -> dict[str, Any]:
    """What must be given besides the scale to get this run's parameters again, e.g. another device."""
    expected = {name: parameter.default for name, parameter in parameters(run).items()}
    beside = run.source.with_suffix(".full.yml")
    if run.scale == "full" and beside.exists():
        expected |= read_overrides(beside)
    return {name: value for name, value in values(run).items() if value != expected[name]}


def spelt(value: Any) -> str:
    """A value as a command line takes it: without spaces or quotes."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def table(run: Run) -> str:
    """HTML: each parameter's default, this run's value if any differs, its meaning; empty if none are declared."""
    found, used = parameters(run), values(run)
    changed = {name for name in found if used[name] != found[name].default}
    columns = ["Parameter", "Default", *(["This run"] if changed else []), "Meaning and allowed values"]
    rows = "".join(_row(found[name], used[name], name in changed, columns) for name in found)
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    told = (f"{len(changed)} of {len(found)} parameters differ from the small scale's defaults." if changed
            else "This run used the defaults: they are the small scale.")  # fmt: skip
    return (f'<p class="repro-label">{told}</p>\n<div class="repro-scroll"><table class="repro-table repro-parameters">'
            f"<caption>Parameters</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
            ) if found else ""  # fmt: skip


def _row(parameter: Parameter, used: Any, changed: bool, columns: list[str]) -> str:
    cells = [f"<code>{escape(spelt(parameter.default))}</code>"]
    if "This run" in columns:
        cells.append(f"<code><strong>{escape(spelt(used))}</strong></code>" if changed else "as default")
    cells.append(escape(parameter.help))
    body = "".join(f'<td data-label="{name}">{cell}</td>' for name, cell in zip(columns[1:], cells, strict=True))
    mark = ' class="repro-changed"' if changed else ""
    return f'<tr{mark}><th scope="row"><code>{escape(parameter.name)}</code></th>{body}</tr>'


def command(run: Run) -> str:
    """The one line that makes this page's numbers again."""
    scale = "" if run.scale == "small" else f" SCALE={run.scale}"
    given = " ".join(f"{name}={spelt(value)}" for name, value in overrides(run).items())
    return f"make page NB=notebooks/{run.part}/{run.slug}.ipynb{scale}" + (f' P="{given}"' if given else "")


def holds_parameters(cell: Mapping[str, Any]) -> bool:
    """Whether a cell holds parameters: the page's own, or those that a run put in their place."""
    return bool({"parameters", "injected-parameters"} & set(cell.get("metadata", {}).get("tags", [])))
