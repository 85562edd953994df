"""What a job is watched for while its kernel runs: memory, time, and whether the one who started it still lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import psutil

INTERVAL = 0.25  # seconds between two looks
MB = 1e6
_adopted: dict[int, float] = {}  # and the most memory that each was seen to have had, in MB


def adopt(pid: int) -> None:
    """Count the process `pid` as this process's child, though another bore it. Once more before it ends, for its peak."""
    _adopted[pid] = max(_adopted.get(pid, 0.0), _high_water(pid))


class OutOfTime(BaseException):
    """The job's time limit has passed. No Exception, so that nothing on the way mistakes it for a failing cell."""


@contextlib.contextmanager
def sole_writer(path: Path) -> Iterator[None]:
    """Create `path` if need be and hold it; waits while another process does.

    A run whose runner was killed takes a moment to end, and its successor writes the same file. The lock belongs to the
    file itself, not to its name: it goes with the process, and with a file that is renamed away.
    """
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another run to leave {path}", file=sys.stderr)
                fcntl.flock(file, fcntl.LOCK_EX)
            if path.exists() and path.stat().st_ino == os.fstat(file.fileno()).st_ino:
                yield
                return


class Watch:
    """Context in which a job runs: after `minutes` (None: no limit) it raises :class:`OutOfTime` in the main thread;
    once the process `runner` is gone (None: nobody's) it terminates itself. ``cost`` tells what it took.

    ``peak_memory_mb``: the largest sum, over this process and all its descendants (and the adopted), of resident memory
    in MB (10^6 bytes), looked at every quarter of a second, and at least what the largest descendant ever had; pages
    that several processes share count repeatedly.
    """

    def __init__(self, minutes: float | None = None, runner: int | None = None) -> None:
        self.minutes = minutes
        self._runner = None if runner is None else _find(runner)
        self.peak_mb = 0.0
        self.cost: dict[str, float] = {}

    def __enter__(self) -> Watch:
        self._started, self._over = time.monotonic(), threading.Event()
        self._previous = signal.signal(signal.SIGALRM, _out_of_time)
        if self.minutes:
            signal.setitimer(signal.ITIMER_REAL, self.minutes * 60)
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._previous)
        self._over.set()
        self._thread.join()
        peak = max(self.peak_mb, _largest_descendant(), *_adopted.values())
        self.cost = {"seconds": round(time.monotonic() - self._started, 2), "peak_memory_mb": round(peak, 1)}

    def _look(self) -> None:
        me = psutil.Process()
        while not self._over.wait(INTERVAL):
            self.peak_mb = max(self.peak_mb, _resident(me))
            if self._runner and _gone(self._runner):
                os.kill(os.getpid(), signal.SIGTERM)
                return


def _out_of_time(number: int, frame: FrameType | None) -> None:
    raise OutOfTime


def _find(pid: int) -> psutil.Process:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        raise SystemExit(f"process {pid}, which this run was started for, is gone") from None


def _gone(process: psutil.Process) -> bool:
    """Whether it has ended; its number may have gone to another process since."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _resident(process: psutil.Process) -> float:
    total, roots = 0, [process]
    for pid in list(_adopted):  # the main thread may adopt meanwhile
        with contextlib.suppress(psutil.Error):  # it has just ended
            roots.append(psutil.Process(pid))
    for root in roots:
        with contextlib.suppress(psutil.Error):
            for one in (root, *root.children(recursive=True)):
                total += one.memory_info().rss
    return total / MB


def _high_water(pid: int) -> float:
    """Largest resident memory in MB that a process that still lives ever had, 0 where that is not told (Linux tells)."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) * 1024 / MB
    return 0.0


def _largest_descendant() -> float:
    """Largest resident memory in MB that one descendant that has ended ever had."""
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / MB
