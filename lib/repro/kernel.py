"""Papermill's engine with two additions: progress while a notebook runs, and kernels that go at once when a run fails.

A progress bar (``tqdm``, switched on in the kernel by ``REPRO_PROGRESS``) goes to the terminal and never onto the page.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from typing import Any, TextIO

from nbformat import NotebookNode
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from repro.nursery import ADDRESS

ENGINE = "repro"
BAR = re.compile(r"%\||\[\d+:\d\d")  # of tqdm: a percentage and a bar, or how long it has taken
SECONDS_BETWEEN_LINES = 10.0  # where lines cannot be overwritten: in a log, or with several jobs on one terminal


class Progress:
    """How far a notebook is: one line that is overwritten on a terminal, a line every few seconds elsewhere."""

    def __init__(self, name: str, stream: TextIO | None = None, every: float = SECONDS_BETWEEN_LINES) -> None:
        self.name, self.stream, self.every = name, stream or sys.stderr, every
        self.last = time.monotonic()
        self.cell = ""

    def at_cell(self, number: int, total: int) -> None:
        """A cell begins."""
        self.cell = f"cell {number} of {total}"
        self._show(self.cell)

    def at_step(self, bar: str) -> None:
        """A progress bar inside the cell has moved; `bar` is what it shows."""
        self._show(f"{self.cell}, {bar}")

    def close(self) -> None:
        """Leave the terminal's line empty."""
        if self.stream.isatty():
            self.stream.write("\r\x1b[K")
            self.stream.flush()

    def _show(self, text: str) -> None:
        line = f"{self.name}: {text}"
        if self.stream.isatty():
            self.stream.write(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}")
        elif time.monotonic() - self.last >= self.every:
            self.last = time.monotonic()
            self.stream.write(f"{line}\n")
        self.stream.flush()


class Client(PapermillNotebookClient):
    """Papermill's client; ``progress`` may be None."""

    def __init__(self, nb_man: Any, progress: Progress | None = None, **options: Any) -> None:
        super().__init__(nb_man, **options)
        self.progress, self.bars = progress, Bars()

    def papermill_execute_cells(self) -> None:
        try:
            super().papermill_execute_cells()
        except BaseException:
            self.shutdown_kernel = "immediate"  # a busy kernel would not answer a polite request
            raise
        finally:
            if self.progress:
                self.progress.close()

    def execute_cell(self, cell: NotebookNode, cell_index: int, *rest: Any, **options: Any) -> NotebookNode:
        if self.progress:
            self.progress.at_cell(cell_index + 1, len(self.nb.cells))
        return super().execute_cell(cell, cell_index, *rest, **options)

    def process_message(self, msg: dict[str, Any], cell: NotebookNode, cell_index: int) -> NotebookNode | None:
        """Keep what a cell printed, except for progress bars."""
        content = msg["content"]
        if msg["msg_type"] == "stream" and content.get("name") == "stderr":
            content["text"], bar = self.bars.split(content["text"])
            if bar and self.progress:
                self.progress.at_step(bar)
            if not content["text"]:
                return None
        return super().process_message(msg, cell, cell_index)


class Bars:
    """Tells the progress bars in a cell's stderr from everything else, piece by piece as the kernel sends it."""

    def __init__(self) -> None:
        self.open = False  # whether the last piece ended inside a bar's line

    def split(self, text: str) -> tuple[str, str]:
        """What is no bar in `text`, and the latest bar in it (empty if there is none)."""
        kept, latest = [], ""
        for line in re.findall(r"[^\n]*\n|[^\n]+", text):
            *overwritten, last = line.rstrip("\n").split("\r")
            bars = [piece for piece in (*overwritten, last) if BAR.search(piece)]
            latest = bars[-1] if bars else latest
            if overwritten or bars or self.open:
                plain = last.strip() and not BAR.search(last)
                kept.append(line[len(line.rstrip("\n")) - len(last) :] if plain else "")
            else:
                kept.append(line)
            self.open = not line.endswith("\n") and not kept[-1]
        return "".join(kept), latest.strip()


class Engine(NBClientEngine):
    """Runs notebooks with :class:`Client`."""

    @classmethod
    def execute_managed_notebook(
        cls,
        nb_man: Any,
        kernel_name: str,
        execution_timeout: int | None = None,
        start_timeout: int = 60,
        **options: Any,
    ) -> NotebookNode:
        if ADDRESS in os.environ:
            from repro import provisioner

            provisioner.use()
        kept = {name: options[name] for name in ("progress", "extra_arguments") if name in options}
        client = Client(
            nb_man, kernel_name=kernel_name, timeout=execution_timeout, startup_timeout=start_timeout, **kept
        )
        return client.execute()


papermill_engines.register(ENGINE, Engine)
