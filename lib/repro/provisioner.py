"""How the runner's jobs get their kernels: from the nursery where there is one, else as Jupyter starts them itself."""

from __future__ import annotations

import os
import pathlib
import sys
from importlib.metadata import EntryPoint
from typing import Any

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from repro.nursery import ADDRESS, IMPORTS, Child
from repro.watch import adopt


def use() -> None:
    """Let all kernels that this process starts come from the nursery that its environment names."""
    factory = KernelProvisionerFactory.instance()
    factory.provisioners["nursery"] = EntryPoint("nursery", f"{__name__}:Nursery", factory.GROUP_NAME)
    factory.default_provisioner_name = "nursery"


class Nursery(LocalProvisioner):
    """Jupyter's local provisioner, its kernels born by :mod:`repro.nursery`."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Raises what starting a process raises."""
        if cmd[:3] != [sys.executable, "-m", "ipykernel_launcher"]:  # another language's, or another environment's
            return await super().launch_kernel(cmd, **kwargs)
        env, cwd = dict(kwargs.get("env") or os.environ), str(kwargs.get("cwd") or pathlib.Path.cwd())
        try:
            self.process = Child(os.environ[ADDRESS], cmd[3:], os.environ.get(IMPORTS, "").split(), cwd, env)
        except OSError:  # it was killed, or is another machine's
            return await super().launch_kernel(cmd, **kwargs)
        self.pid = self.pgid = self.process.pid
        self.cwd = cwd
        adopt(self.pid)
        return self.connection_info

    async def shutdown_requested(self, restart: bool = False) -> None:
        """Whoever asks for the end, politely or not, has its memory looked at first."""
        if isinstance(self.process, Child):
            adopt(self.pid)
        await super().shutdown_requested(restart)

    async def kill(self, restart: bool = False) -> None:
        """At once; as above."""
        if isinstance(self.process, Child):
            adopt(self.pid)
        await super().kill(restart)
