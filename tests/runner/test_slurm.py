"""The same jobs through a real Slurm of one node; opt-in, since it starts daemons: REPRO_SLURM=1, as root."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from projects import GO, environment, project, write

pytestmark = [
    pytest.mark.skipif(os.environ.get("REPRO_SLURM") != "1", reason="starts Slurm's daemons: only with REPRO_SLURM=1"),
    pytest.mark.skipif(not shutil.which("slurmctld"), reason="slurmctld is not installed (workflow/slurm/one-node.sh)"),
]


def test_jobs_go_through_slurm_with_what_their_notebooks_ask_for_and_a_failure_is_told(tmp_path: Path) -> None:
    root = project(tmp_path)
    write(root / "notebooks/theory/good.ipynb", "import os; os.environ['SLURM_JOB_ID']",
          metadata={"repro": {"small": {"minutes": 7, "memory_gb": 1}}})  # fmt: skip
    write(root / "notebooks/theory/bad.ipynb", "1 / 0")
    command = f"cd {root} && {' '.join(GO)} small slurm $queue; status=$?; scontrol show job; exit $status"
    done = subprocess.run(["workflow/slurm/one-node.sh", "shell", "bash", "-c", command], cwd=root, timeout=300,
                          env=environment(root), capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert (
        "theory/good: done" in done.stdout and "theory/bad: FAILED (notebooks/theory/bad.ipynb: cell [2]" in done.stderr
    )
    good = nbformat.read(root / "_build/runs/small/theory/good.ipynb", as_version=4)
    assert good.cells[-1].outputs[0].data["text/plain"].strip("'").isdigit()
    assert (root / "_build/runs/small/theory/bad.failed.ipynb").exists()
    assert "TimeLimit=00:08:00" in done.stdout and "mem=1000M" in done.stdout
    assert not os.path.lexists("/etc/slurm/slurm.conf")
