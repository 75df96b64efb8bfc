import gzip
import os
import signal
from pathlib import Path

import pytest

os.environ["MPLBACKEND"] = "agg"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "question-formation"


@pytest.fixture(scope="session")
def real_lines():
    """Real Question-Formation lines by file name; the test is skipped where they are not at hand."""
    if not SHARED.is_dir():
        pytest.skip("the real Question-Formation lines are not at hand")
    return lambda name: gzip.open(SHARED / f"question.{name}.gz", "rt").read().splitlines()


def hearing():
    """For Popen's preexec_fn: a process hears Ctrl-C even where the tests run in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
