"""An intranet that knows Kerberos and nothing else: Apache with ``mod_auth_gssapi`` on a port of loopback."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from appproxy.demo.kdc import PATH, Missing, Start, give_root_up, hand_over

MODULES: Final = Path("/usr/lib/apache2/modules")
_GSSAPI: Final = MODULES / "mod_auth_gssapi.so"


def missing() -> list[str]:
    """The packages that are not installed."""
    absent = [] if Path("/usr/sbin/apache2").exists() else ["apache2"]
    return absent + ([] if _GSSAPI.exists() else ["libapache2-mod-auth-gssapi"])


class Apache:
    """One server.

    :param folder: which it has to be able to reach; the page and the log are there.
    :param keytab: with the keys of its service principal names.
    :param require: whom it lets in; *more*: further directives beside that; *server*: of the server itself.
    :raises Missing: packages are not installed.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        keytab: Path,
        krb5_config: Path,
        start: Start,
        require: str = "valid-user",
        more: str = "",
        server: str = "",
    ) -> None:
        if absent := missing():
            raise Missing("an origin with Kerberos needs Debian packages that are not installed: " + " ".join(absent))
        self.port = port
        self.folder = folder
        self._keytab = keytab
        self._krb5_config = krb5_config
        self._start = start
        self._require = require
        self._more = more
        self._server = server

    def start(self, within: Sequence[str] = ()) -> Any:
        """Serve, as the last arguments of the command *within*."""
        folder = self.folder
        pages = folder / "pages"
        pages.mkdir(parents=True, exist_ok=True)
        (pages / "index.shtml").write_text(PAGE)
        (pages / "user.shtml").write_text('<!--#echo encoding="none" var="REMOTE_USER" -->\n')
        config = folder / "apache.conf"
        config.write_text(
            CONFIG.format(
                folder=folder,
                port=self.port,
                modules=MODULES,
                keytab=self._keytab,
                require=self._require,
                more=self._more,
                server=self._server,
            )
        )
        hand_over(folder, self._keytab)
        environ = {
            "KRB5_CONFIG": str(self._krb5_config),
            # Its memory of what it has seen, for replays.
            "KRB5RCACHENAME": f"file2:{folder}/replays",
            "PATH": PATH,
            "LC_ALL": "C",
        }
        command = [*within, "apache2", "-f", str(config), "-DFOREGROUND"]
        return self._start("apache", give_root_up(command), environ, self.listens)

    def listens(self) -> bool:
        """Whether it accepts connections."""
        with socket.socket() as probe:
            probe.settimeout(1.0)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


CONFIG = """\
ServerRoot {folder}
ServerName localhost
Listen 127.0.0.1:{port}
PidFile {folder}/apache.pid
ErrorLog {folder}/apache-errors.log
LogLevel warn auth_gssapi:info
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authn_core_module {modules}/mod_authn_core.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule authz_user_module {modules}/mod_authz_user.so
LoadModule auth_gssapi_module {modules}/mod_auth_gssapi.so
LoadModule include_module {modules}/mod_include.so
LoadModule filter_module {modules}/mod_filter.so
LoadModule headers_module {modules}/mod_headers.so
LoadModule dir_module {modules}/mod_dir.so
LoadModule mime_module {modules}/mod_mime.so
LoadModule alias_module {modules}/mod_alias.so
StartServers 1
ServerLimit 2
ThreadsPerChild 64
ThreadLimit 64
MaxRequestWorkers 128
KeepAliveTimeout 30
MaxKeepAliveRequests 0
LimitRequestFieldSize 65536
{server}
DocumentRoot {folder}/pages
TypesConfig /dev/null
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
<Directory {folder}/pages>
    Options +Includes
    DirectoryIndex index.shtml
    Require all denied
</Directory>
<Location "/">
    AuthType GSSAPI
    AuthName intranet
    GssapiCredStore keytab:{keytab}
    Require {require}
    Header always set X-Remote-User expr=%{{REMOTE_USER}}
    {more}
</Location>
"""

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Intranet with Kerberos</title>
<h1>Good day, <!--#echo var="REMOTE_USER" --></h1>
<p>This is Apache with <code>mod_auth_gssapi</code>.  It lets nobody in without a Kerberos ticket, and has checked
yours: the connector asked the KDC for it in your name.  You have typed no password for it.</p>
</html>
"""
