"""How the tests are shared out: a file stays on one worker, for its fixtures and a notebook's kernel, with one exception.

The full-scale runs are minutes long and know nothing of each other; on one worker they would be the suite's long tail.
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling


class ByFile(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return nodeid if "test_full_scale.py" in nodeid else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    return ByFile(config, log)
