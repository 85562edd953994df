"""Start Snakemake on one target: ``python workflow/go.py small | full | sweep [PROFILE] [snakemake options]``.

A killed Snakemake leaves a lock behind that it then refuses to pass. Here the lock is held by the process itself
(flock), so it goes when the process goes, and a run that is really going on is still never joined by a second one.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path

from repro import nursery
from repro.resources import DEFAULTS, ResourceError, resources
from repro.run import set_environment

HERE = Path(__file__).resolve().parent


def main(target: str, profile: str = "default", *options: str) -> None:
    """Replace this process by Snakemake. Exits with one line if another run is going on, there is no such profile, or a
    notebook asks for resources that cannot be.
    """
    folder = HERE / "profiles" / profile
    if not folder.is_dir():
        known = ", ".join(sorted(path.name for path in folder.parent.iterdir()))
        sys.exit(f"no profile {profile!r} in workflow/profiles; there are: {known}")
    try:
        for notebook in sorted(Path("notebooks").glob("*/*.ipynb")):
            for scale in DEFAULTS:
                resources(notebook, scale)
    except ResourceError as error:
        sys.exit(str(error))
    Path("_build").mkdir(exist_ok=True)
    lock = os.open("_build/.running", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another run is going on in this folder; wait for it or stop it first")
    os.set_inheritable(lock, True)
    if {"-n", "--dry-run", "--dryrun"} & set(options):  # Snakemake's own account of it, which nothing but this shortens
        options = (*options, "--quiet", "rules", "host", "progress", "reason")
    elif profile == "default":  # jobs of other profiles run on other machines
        set_environment(1)
        nursery.start()
    os.execv(sys.executable, [sys.executable, "-m", "snakemake", target, "--snakefile", str(HERE / "Snakefile"),
                              "--nolock", "--workflow-profile", "none", "--profile", str(folder), *options])  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
