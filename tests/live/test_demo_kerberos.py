"""``make demo-kerberos``: a realm and an intranet that wants its tickets, with nothing left behind."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

import pytest

from tests.live.clients import Browser
from tests.live.kdc import require
from tests.live.test_demo import free_ports, started, stop

require()
pytestmark = [pytest.mark.live, pytest.mark.time_limit(120)]


def test_both_users(tmp_path: Path) -> None:
    """Who signs in is known to the intranet by a ticket; after Ctrl-C no port, process or folder is left."""
    ports = free_ports()
    before = set(Path(tempfile.gettempdir()).glob("appproxy-demo-*"))
    with started(tmp_path / "demo", ports, "--kerberos") as running:
        tls = ssl.create_default_context(cafile=str(tmp_path / "demo" / "relay" / "development-ca.pem"))
        address = f"https://windows.localhost:{ports.clients}/"
        assert address in running.said
        for name, password in (("alice", "wonderland"), ("bob", "builder")):
            page = Browser(tls).sign_in(address, name, password)
            assert (page.status, f"Good day, {name}@CORP.EXAMPLE" in page.text) == (200, True)
        code, said = stop(running)
    assert (code, "stopped" in said) == (0, True), said
    assert ports.taken(kerberos=True) == ""
    assert set(Path(tempfile.gettempdir()).glob("appproxy-demo-*")) == before
