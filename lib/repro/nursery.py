"""Kernels that are born with their libraries loaded: one process imports them, and every kernel of a run is its fork.

Starting a kernel and importing torch, matplotlib and scipy takes a page longer than many a measurement. The runner
starts one nursery for all pages (:func:`start`), and every job's kernel comes from there through Jupyter's own hook for
such things, a kernel provisioner (:mod:`repro.provisioner`). Where no nursery answers, kernels start as ever.

A job and its kernel hold the two ends of one socket, and whoever lives longer reads the other's end from it.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from subprocess import DEVNULL, Popen

#: Environment variables: the nursery's socket, and what the page that is to be run imports.
ADDRESS, IMPORTS = "REPRO_NURSERY", "REPRO_IMPORTS"


def start() -> None:
    """Start a nursery for all kernels that this process, and who takes its place, will start. It ends with them."""
    if sys.platform != "linux":  # elsewhere a process may not survive a fork, once it has loaded so much
        return
    address = Path(tempfile.mkdtemp(prefix="repro-")) / "kernels"
    os.environ[ADDRESS] = str(address)
    command = [sys.executable, "-m", "repro.nursery", str(address), str(os.getpid())]
    Popen(command, stdin=DEVNULL, start_new_session=True)  # a session of its own: Ctrl-C is for the jobs


def imported(page: ast.Module) -> list[str]:
    """The modules that a page's cells import on their own lines, in order, and what may be modules imported from them.

    The library's own are left out, since it may change while the nursery lives.
    """
    found: list[str] = []
    for line in page.body:
        if isinstance(line, ast.Import):
            found += [alias.name for alias in line.names]
        elif isinstance(line, ast.ImportFrom) and line.module and not line.level:
            found += [line.module, *(f"{line.module}.{alias.name}" for alias in line.names)]
    return [name for name in dict.fromkeys(found) if name.partition(".")[0] not in ("repro", "__future__")]


class Child:
    """A kernel that the nursery bore, with the part of ``subprocess.Popen`` that Jupyter's provisioner uses.

    Raises OSError where the nursery is gone.
    """

    stdin = stdout = stderr = None
    returncode: int | None = None

    def __init__(self, address: str, argv: list[str], modules: list[str], cwd: str, env: dict[str, str]) -> None:
        self.life = socket.socket(socket.AF_UNIX)
        self.life.connect(address)
        request = json.dumps({"argv": argv, "modules": modules, "cwd": cwd, "env": env}).encode() + b"\n"
        socket.send_fds(self.life, [request[:1]], [1, 2])  # it prints where we do
        self.life.sendall(request[1:])
        answer = self.life.recv(16)
        if not answer:
            raise ConnectionError("the nursery ended before it bore a kernel")
        self.pid = int(answer)

    def poll(self) -> int | None:
        """None while the kernel lives. How it ended only the nursery could know: told as killed."""
        if self.returncode is None:
            with contextlib.suppress(BlockingIOError):
                self.life.recv(1, socket.MSG_DONTWAIT)
                self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self) -> int:
        """Block until it has ended."""
        if self.returncode is None:
            self.life.recv(1)
            self.returncode = -signal.SIGKILL
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Nothing where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def serve(address: Path, parent: int) -> None:
    """Bear kernels until the process `parent` is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(address))
        door.listen()
        door.settimeout(1.0)
        while os.getppid() == parent:
            with contextlib.suppress(TimeoutError, ConnectionError, ValueError):  # who asked is gone
                life, _ = door.accept()
                with life:
                    _bear(life, door)
    address.unlink()
    address.parent.rmdir()


def _bear(life: socket.socket, door: socket.socket) -> None:
    life.settimeout(5.0)
    head, streams, *_ = socket.recv_fds(life, 1, 2)
    with life.makefile("rb") as rest:
        request = json.loads(head + rest.readline())
    for name in ["ipykernel.kernelapp", "ipykernel.ipkernel", *request.pop("modules")]:
        with contextlib.suppress(Exception):  # the page itself will say what is wrong
            importlib.import_module(name)
    gc.freeze()  # else the collector of every child writes to, and so copies, all that is shared
    if os.fork() == 0:
        door.close()
        try:
            _become_kernel(life, streams, **request)
        except Exception:
            traceback.print_exc()
            os._exit(1)
        raise SystemExit
    for stream in streams:
        os.close(stream)


def _become_kernel(life: socket.socket, streams: list[int], argv: list[str], cwd: str, env: dict[str, str]) -> None:
    """Do what a kernel's command does, in this process."""
    os.setsid()  # a group of its own, as Jupyter's launcher gives it
    for stream, number in zip(streams, (1, 2), strict=True):
        os.dup2(stream, number)
        os.close(stream)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for name in [name for name in sys.modules if name.partition(".")[0] == "repro"]:
        del sys.modules[name]
    life.settimeout(None)
    life.sendall(str(os.getpid()).encode())
    threading.Thread(target=_end_with, args=(life,), daemon=True).start()
    import ipykernel_launcher
    from ipykernel.kernelapp import launch_new_instance

    sys.argv = [str(ipykernel_launcher.__file__), *argv]
    launch_new_instance()


def _end_with(life: socket.socket) -> None:
    with contextlib.suppress(OSError):  # a job that was gone before it had read our number
        life.recv(1)  # returns once the job is gone
    os._exit(1)


if __name__ == "__main__":
    sys.path.remove(os.getcwd())  # as ipykernel's launcher does; the kernel puts its own folder there
    os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"  # read on import; ipykernel sets it later
    serve(Path(sys.argv[1]), int(sys.argv[2]))
