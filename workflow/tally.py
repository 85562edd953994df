"""What a run tells while it goes: one line a notebook that has ended, of how many.

Snakemake's own messages are switched off; its log records arrive here all the same, whichever executor runs the jobs.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.common import LogEvent

RULES = {"run_small": "", "run_full": " at full scale", "run_setting": ""}


class Tally(logging.Handler):
    """Counts the jobs of :data:`RULES`, and lets errors pass that are not a job's. In a dry run (``-n``) it says what
    would run, and why.
    """

    def __init__(self, workflow: Any) -> None:
        super().__init__()
        self.workflow = workflow
        self.total = self.ended = 0
        self.jobs: dict[int, tuple[str, list[str]]] = {}  # name; logs to quote, where jobs run on other machines

    def emit(self, record: logging.LogRecord) -> None:
        event = getattr(record, "event", None)
        if event == LogEvent.RUN_INFO:
            self.total = sum(record.stats.get(rule, 0) for rule in RULES)
            if self.total:
                print(f"{self.total} to run", flush=True)
        elif event == LogEvent.JOB_INFO and record.rule_name in RULES:
            wildcards = dict(record.wildcards)
            name = (wildcards.get("page") or wildcards.get("setting", "")) + RULES[record.rule_name]
            self.jobs[record.jobid] = (name, [] if record.local else list(record.log))
            if self.workflow.dryrun:
                print(f"{name} would run: {record.reason}", flush=True)
        elif event == LogEvent.JOB_FINISHED:
            self._end(record.job_id, "done")
        elif event == LogEvent.JOB_ERROR:
            self._end(record.jobid, "FAILED")
        elif event == LogEvent.ERROR and not (self.jobs or self.ended):  # before any job: the workflow itself is wrong
            print(record.getMessage(), file=sys.stderr)

    def _end(self, job: int, how: str) -> None:
        if job not in self.jobs:
            return
        name, logs = self.jobs.pop(job)
        self.ended += 1
        line = f"[{self.ended} of {self.total}] {name}: {how}"
        if how == "FAILED" and logs:
            line += f" ({_last_line(logs)})"
        print(line, file=sys.stdout if how == "done" else sys.stderr, flush=True)


def _last_line(logs: list[str]) -> str:
    lines = [line for log in logs if Path(log).exists() for line in Path(log).read_text().splitlines() if line.strip()]
    return lines[-1] if lines else "it left no log: see the scheduler's"
