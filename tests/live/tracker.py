"""Roundup, an issue tracker with its own users and sign-in form, that writes its own address into its pages.

``python -m tests.live.tracker PORT HOME`` serves the tracker that :class:`Tracker` has made.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIServer, make_server

from tests.live.programs import BIN, Program, listens
from tests.live.stack import IMPORTABLE

#: As an administrator would set it up without knowing of any proxy; but for one check that would refuse every proxy
#: which says, as all do, by what name the client came.
SETTINGS = (
    "tracker_web=http://127.0.0.1:{port}/,mail_domain=localhost,mail_host=localhost,admin_email=root@localhost,"
    "web_csrf_enforce_header_x-forwarded-host=no"
)


class Tracker:
    """A tracker in *home* with a user, alice, whose password is "builders"."""

    def __init__(self, port: int, home: Path) -> None:
        self.port, self.home = port, home
        home.mkdir()
        self._administer("install", "classic", "sqlite", SETTINGS.format(port=port))
        # Without a mail server nobody is told of anything.
        (home / "detectors" / "nosyreaction.py").unlink()
        self._administer("initialise", "wonderland")
        self._administer(
            "create", "user", "username=alice", "password=builders", "roles=User", "address=alice@example.com"
        )

    def _administer(self, *arguments: str) -> None:
        ran = subprocess.run(
            [BIN / "roundup-admin", "-i", self.home, *arguments], capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr

    def start(self, folder: Path) -> Program:
        """Start it; it logs to *folder*."""
        arguments = [BIN / "python", "-m", "tests.live.tracker", str(self.port), self.home]
        program = Program("tracker", arguments, folder, IMPORTABLE)
        program.wait_for(lambda: listens(self.port), "the tracker listens")
        return program


class Threaded(ThreadingMixIn, WSGIServer):
    """Serves several at once."""

    daemon_threads = True


def main() -> None:
    """Serve until killed."""
    from roundup.cgi.wsgi_handler import RequestDispatcher

    port, home = sys.argv[1:]
    make_server("127.0.0.1", int(port), RequestDispatcher(home), Threaded).serve_forever()


if __name__ == "__main__":
    main()
