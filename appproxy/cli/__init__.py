"""The ``appproxy`` command.

:mod:`~appproxy.cli.command` reads the command line and turns failures into one line and an exit code;
:mod:`~appproxy.cli.relay` talks to a relay's admin socket, :mod:`~appproxy.cli.showing` prints what comes back; every
group of verbs has a module of its own, which is imported only when one of its verbs is typed.
"""

from __future__ import annotations


def main() -> int:
    """The command as installed: exit code 0 done, 1 refused or failed, 2 not understood."""
    import os
    import sys

    from appproxy.cli.command import run

    return run(sys.argv[1:], os.environ)
