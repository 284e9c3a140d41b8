"""Commands as processes of their own: those that run a reactor."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.cli.running import Ended

PROGRAM = "import sys; from appproxy.cli import main; sys.exit(main())"


def begin(*argv: str) -> subprocess.Popen[str]:
    """Start ``appproxy``."""
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ,
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    """Wait until it has ended."""
    try:
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    return Ended(process.returncode, out, err)
