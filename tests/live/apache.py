"""Debian's Apache as an origin: WebDAV at ``/dav/``, git at ``/git/``, plain files at ``/files/``."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.live.programs import Program, listens

MODULES = Path("/usr/lib/apache2/modules")
GIT_BACKEND = Path("/usr/lib/git-core/git-http-backend")
NOBODY = 65534
CONFIGURATION = """
ServerRoot {root}
PidFile httpd.pid
Listen 127.0.0.1:{port}
ServerName internal.example
{modules}
{user}
TypesConfig /etc/mime.types
ErrorLog error.log
LogFormat "%m %U %>s %{{Content-Encoding}}i %{{Transfer-Encoding}}i %{{Content-Length}}i" what
CustomLog access.log what
DavLockDB locks
DocumentRoot {root}/htdocs
FileETag MTime Size
KeepAliveTimeout 60
<Directory {root}/htdocs>
Require all granted
</Directory>
<Directory {root}/htdocs/dav>
Dav on
</Directory>
SetEnv GIT_PROJECT_ROOT {root}/repositories
SetEnv GIT_HTTP_EXPORT_ALL 1
ScriptAlias /git/ {git}/
<Directory {git_folder}>
Require all granted
</Directory>
"""


class Apache:
    """An Apache with a folder of its own, which it may read even where the tests run as root.

    :ivar root: its folder; ``htdocs/dav``, ``htdocs/files`` and ``repositories`` are in it.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        binary = shutil.which("apache2") or shutil.which("apache2", path="/usr/sbin")
        if binary is None or not MODULES.is_dir():
            pytest.skip("there is no Apache; on Debian: apt-get install apache2-bin")
        self._binary = binary
        self.root = Path(tempfile.mkdtemp(prefix="appproxy-apache-"))
        for folder in ("htdocs/dav", "htdocs/files", "repositories"):
            (self.root / folder).mkdir(parents=True)
        as_root = os.geteuid() == 0
        modules = ["mpm_prefork", "authz_core", "dav", "dav_fs", "mime", "cgi", "alias", "env"]
        self.root.joinpath("httpd.conf").write_text(
            CONFIGURATION.format(
                root=self.root,
                port=port,
                modules="\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in modules),
                user=f"User #{NOBODY}\nGroup #{NOBODY}" if as_root else "",
                git=GIT_BACKEND,
                git_folder=GIT_BACKEND.parent,
            )
        )

    def hand_over(self) -> None:
        """Make everything in the folder Apache's own."""
        if os.geteuid() != 0:
            return
        self.root.chmod(0o755)
        for path in [self.root, *self.root.rglob("*")]:
            os.chown(path, NOBODY, NOBODY)

    def start(self, folder: Path) -> Program:
        """Start it; it logs to *folder*."""
        self.hand_over()
        # When told to stop it tells its whole process group, which must not be the tests'.
        program = Program("apache", ["setsid", self._binary, "-DFOREGROUND", "-f", self.root / "httpd.conf"], folder)
        program.wait_for(lambda: listens(self.port), "Apache listens")
        return program

    def requests(self) -> list[str]:
        """What it logged: method, path, status, Content-Encoding, Transfer-Encoding, Content-Length of each request."""
        return (self.root / "access.log").read_text().splitlines()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.root, ignore_errors=True)
