"""Debian's litmus, the compliance test of WebDAV servers, against Apache's mod_dav: direct and published."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.apache import Apache
from tests.live.programs import free_ports
from tests.live.stack import Stack

pytestmark = pytest.mark.live

#: litmus looks its host up by the system's resolver, which may know no other name of this machine.
APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "dav"
external_url = "https://localhost:PORT/dav/"
internal_url = "http://127.0.0.1:APACHE/dav/"
connector_group = "hq"
preauthentication = "passthrough"
[[application]]
id = "share"
external_url = "https://localhost:PORT/outside/share/"
internal_url = "http://127.0.0.1:APACHE/dav/"
connector_group = "hq"
preauthentication = "passthrough"
"""


@pytest.fixture(scope="module")
def apache() -> Iterator[Apache]:
    """Apache's folder."""
    [port] = free_ports(1)
    apache = Apache(port)
    yield apache
    apache.remove()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, apache: Apache) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("webdav")) as stack:
        stack.add(apache.start(stack.folder))
        stack.start(APPLICATIONS.replace("APACHE", str(apache.port)))
        yield stack


def litmus(url: str, folder: Path) -> dict[str, str]:
    """Run all of litmus; what came of each of its tests, by suite, number and name."""
    program = shutil.which("litmus")
    if program is None:
        pytest.skip("there is no litmus; on Debian: apt-get install litmus")
    folder.mkdir()
    ran = subprocess.run([program, "-k", url], cwd=folder, capture_output=True, text=True, timeout=100)
    found: dict[str, str] = {}
    suite = ""
    for line in ran.stdout.split("\n"):
        if named := re.match(r"-> running `(\w+)'", line):
            suite = named[1]
        elif result := re.match(r".*?(\d+)\. (\w+)[.\s]*(pass|FAIL|SKIPPED|WARNING)(.*)", line.rpartition("\r")[2]):
            found[f"{suite} {result[1]} {result[2]}"] = result[3] + result[4]
    assert found, ran.stdout + ran.stderr
    return found


@pytest.mark.feature("HTTP-2", "TRN-1")
@pytest.mark.parametrize("path", ["/dav/", "/outside/share/"])
def test_litmus(stack: Stack, apache: Apache, tmp_path: Path, path: str) -> None:
    """W02, L13: COPY, MOVE, locks and properties work by the external address as they do by the internal one."""
    direct = litmus(f"http://127.0.0.1:{apache.port}/dav/", tmp_path / "direct")
    proxied = litmus(f"https://localhost:{stack.clients_port}{path}", tmp_path / "proxied")
    assert proxied.pop("http 2 expect100") == "SKIPPED (skipping for SSL server)"  # by litmus itself
    assert direct.pop("http 2 expect100") == "pass"
    assert proxied == direct
    assert len([result for result in proxied.values() if result == "pass"]) > 100
