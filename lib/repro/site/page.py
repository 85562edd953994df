"""Stage one executed notebook: header card, table of parameters, evidence, each figure's caption and other text."""

from __future__ import annotations

import base64
import copy
import json
import re
from pathlib import Path
from typing import Any

from repro.evidence.page import MIME
from repro.site import evidence, parameters
from repro.site.runs import Run, text

# Where a label can be defined in MyST: "(label)=", "$$ ... $$ (label)", ":label: x", ":name: x".
_LABEL = re.compile(r"^\(([\w:.-]+)\)=|\$\$ \(([\w:.-]+)\)|^:(?:label|name): ([\w:.-]+)", re.M)


def stage(run: Run, card: str, folder: Path) -> str | None:
    """Write the staged page and its images under ``folder``; returns the cover's path from ``folder``, if any."""
    notebook = copy.deepcopy(run.notebook)
    # Papermill's own marks around an error would stand above the title; the card says the same.
    notebook["cells"] = [cell for cell in notebook["cells"] if "papermill-error-cell-tag" not in _tags(cell)]
    page = folder / f"{run.docname}.ipynb"
    page.parent.mkdir(parents=True, exist_ok=True)
    cover = None
    for number, cell in enumerate(notebook["cells"]):
        images = (
            _stage_outputs(cell, page, f"{run.slug}-{number}", not run.failure) if cell["cell_type"] == "code" else []
        )
        if images and "cover" in _tags(cell):
            cover = cover or f"{Path(run.docname).parent}/{images[0]}"
    if run.scale != "small":
        _rename_labels(notebook["cells"], run.scale)
    notebook["metadata"].setdefault("language_info", {"name": "python", "pygments_lexer": "ipython3"})
    notebook["cells"] = _with_parameters(notebook["cells"], run)
    notebook["cells"] = _with_card(notebook["cells"], run, card)
    page.write_text(json.dumps(notebook), encoding="utf-8")
    return cover


def alt_text(output: dict[str, Any]) -> tuple[str, str]:
    """Alternative text and caption that ``repro.figures.show`` left with an image; empty where it did not."""
    told = output.get("metadata", {}).get("repro", {})
    return " ".join(told.get("alt", "").split()), " ".join(told.get("caption", "").split())


def cover_alt(run: Run) -> str:
    """Alternative text of the cover."""
    for cell in run.notebook["cells"]:
        if "cover" in _tags(cell):
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    return alt_text(output)[0]
    return ""


def _tags(cell: dict[str, Any]) -> list[str]:
    return cell.get("metadata", {}).get("tags", [])


def _stage_outputs(cell: dict[str, Any], page: Path, stem: str, sound: bool) -> list[str]:
    """Turn the cell's images into figure files beside the page, and its evidence record into the site's table of it.

    Returns the images' paths relative to the page.
    """
    images = []
    for output in cell["outputs"]:
        data = output.get("data", {})
        record = data.pop(MIME, None)
        if sound and record:
            output["data"] = {"text/html": evidence.table(json.loads(record) if isinstance(record, str) else record)}
        if "image/png" in data:
            name = f"figures/{stem}-{len(images)}.png"
            (page.parent / "figures").mkdir(exist_ok=True)
            (page.parent / name).write_bytes(base64.b64decode("".join(data["image/png"])))
            output["data"] = {"text/markdown": _figure(name, *alt_text(output))}
            images.append(name)
    cell["outputs"] = [output for output in cell["outputs"] if output.get("data") != {}]
    return images


def _figure(name: str, alt: str, caption: str) -> str:
    return f"```{{figure}} {name}\n:alt: {quoted(alt)}\n\n{caption}\n```\n" if alt else f"![]({name})\n"


def quoted(text: str) -> str:
    """A directive option's value in which no character has a meaning of its own (JSON's strings are YAML's)."""
    return json.dumps(text, ensure_ascii=False)


def _with_card(cells: list[dict[str, Any]], run: Run, card: str) -> list[dict[str, Any]]:
    """The card goes straight below the title; a notebook without a title gets its name as one."""
    for place, cell in enumerate(cells):
        heading = re.search(r"^# .+$", text(cell), re.M) if cell["cell_type"] == "markdown" else None
        if heading:
            title, rest = text(cell)[: heading.end()], text(cell)[heading.end() :]
            if run.scale != "small":
                title += f" ({run.scale} scale)"
            return [*cells[:place], cell | {"source": f"{title}\n\n{card}\n\n{rest.lstrip()}"}, *cells[place + 1 :]]
    title = {"cell_type": "markdown", "id": "title", "metadata": {}, "source": f"# {run.name}\n\n{card}\n"}
    return [title, *cells]


def _with_parameters(cells: list[dict[str, Any]], run: Run) -> list[dict[str, Any]]:
    """Parameters cells folded, and below the last of them the table of defaults and this run's values."""
    places = [place for place, cell in enumerate(cells) if parameters.holds_parameters(cell)]
    table = parameters.table(run)
    if not places or not table:
        return cells
    for place in places:
        cells[place]["metadata"]["tags"] = [*_tags(cells[place]), "hide-input"]
    shown = {"cell_type": "markdown", "id": "parameters-table", "metadata": {}, "source": table}
    return [*cells[: places[-1] + 1], shown, *cells[places[-1] + 1 :]]


def _rename_labels(cells: list[dict[str, Any]], suffix: str) -> None:
    """Both scales of a page define the same labels; Sphinx wants them unique over the site."""
    prose = [cell for cell in cells if cell["cell_type"] == "markdown"]
    labels = {label for cell in prose for found in _LABEL.findall(text(cell)) for label in found if label}
    for cell in prose:
        source = text(cell)
        for label in labels:
            source = re.sub(rf"(?<=[(`<: #]){re.escape(label)}(?=[)`>\n])", f"{label}-{suffix}", source)
        cell["source"] = source
