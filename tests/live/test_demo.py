"""``make demo`` as a newcomer meets it: the quick start's processes, two users, Ctrl-C."""

from __future__ import annotations

import html
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from typing import NamedTuple
from unittest import mock
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, HTTPSHandler, OpenerDirector, Request, build_opener

import pytest

from appproxy.demo.settings import Ports

SECONDS = 60.0
_resolve = socket.getaddrinfo


class Running(NamedTuple):
    """A demo that has said how to use it."""

    process: subprocess.Popen[str]
    folder: Path
    ports: Ports
    said: str

    @property
    def addresses(self) -> list[str]:
        """What the box says to open: intranet, reports, portal."""
        return re.findall(r"https://\S+", self.said.partition("Open")[2])[:3]


@contextmanager
def started(folder: Path, ports: Ports, *more: str) -> Iterator[Running]:
    """A demo that has shown its box; stopped in the end, whatever happens."""
    running = start(folder, ports, *more)
    try:
        yield running
    finally:
        stop(running)


def start(folder: Path, ports: Ports, *more: str) -> Running:
    """Start a demo and wait for its box."""
    process = subprocess.Popen(
        [sys.executable, "-m", "appproxy.demo", "--port", str(ports.clients), "--state-dir", str(folder), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            return Running(process, folder, ports, said)
    raise AssertionError(f"ended with {process.wait()}: {said}")


def stop(running: Running, number: int = signal.SIGINT) -> tuple[int, str]:
    """Press Ctrl-C; gives the exit code and what was said since."""
    if running.process.poll() is None:
        running.process.send_signal(number)
    if running.process.stdout is not None and running.process.stdout.closed:
        return running.process.returncode, ""
    said, _ = running.process.communicate(timeout=SECONDS)
    return running.process.returncode, said


def free_ports() -> Ports:
    """Ports in the demo's own distances that nobody has at the moment."""
    for first in range(21443, 61443, 1000):
        ports = Ports.beginning(first)
        if not ports.taken(kerberos=True):
            return ports
    raise AssertionError("no free ports")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A demo that was started for the second time: what it keeps is used again."""
    folder = tmp_path_factory.mktemp("quick") / "demo"
    ports = free_ports()
    with started(folder, ports) as first:
        assert "one-time token" in first.said
        assert stop(first)[0] == 0
    with started(folder, ports) as running:
        yield running


class Browser:
    """A browser as far as a sign-in needs one; it knows that ``*.localhost`` is this machine."""

    def __init__(self, running: Running) -> None:
        context = ssl.create_default_context(cafile=str(running.folder / "relay" / "development-ca.pem"))
        cookies = HTTPCookieProcessor(CookieJar())
        self._opener: OpenerDirector = build_opener(HTTPSHandler(context=context), cookies)
        self.url = ""
        self.text = ""

    def open(self, url: str, form: dict[str, str] | None = None) -> int:
        """Go there, following redirects; gives the status of the last answer."""
        body = urlencode(form).encode() if form is not None else None
        request = Request(url, body, {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"})
        here = ("127.0.0.1",)
        with mock.patch("socket.getaddrinfo", lambda host, *more, **named: _resolve(*here, *more, **named)):
            try:
                answer = self._opener.open(request, timeout=20)
            except HTTPError as refused:
                answer = refused
        self.url, self.text = answer.geturl(), answer.read().decode()
        status: int = answer.status
        return status

    def sign_in(self, url: str, name: str, password: str) -> int:
        """Go there by way of the development identity provider."""
        assert self.open(url) == 200
        fields = dict(re.findall(r'name="([^"]+)"[^>]*value="([^"]*)"', self.text))
        action = re.search(r'<form[^>]*action="([^"]+)"', self.text)
        assert action is not None, self.text
        form = {key: html.unescape(value) for key, value in fields.items()} | {"username": name, "password": password}
        return self.open(urljoin(self.url, html.unescape(action[1])), form)


@pytest.mark.feature("AUTH-14", "OPS-1", "SCN-3")
def test_alice_sees_the_intranet(demo: Running) -> None:
    """With what the box says, alice signs in once and sees the intranet, the reports and a portal with both."""
    assert "alice, password wonderland" in demo.said
    intranet, reports, proxy = demo.addresses
    browser = Browser(demo)
    assert browser.sign_in(intranet + "?x=1", "alice", "wonderland") == 200
    assert browser.url == intranet + "?x=1"
    assert '<span id="user">alice</span>' in browser.text
    assert browser.open(reports) == 200
    assert '<span id="groups">staff,finance</span>' in browser.text
    assert browser.open(proxy) == 200
    assert intranet in browser.text
    assert reports in browser.text


@pytest.mark.feature("POL-1", "ADM-1")
def test_bob_is_refused_the_reports(demo: Running) -> None:
    """Bob, not in the finance group, gets the intranet, 403 for the reports, and a portal without them."""
    intranet, reports, proxy = demo.addresses
    browser = Browser(demo)
    assert browser.sign_in(intranet, "bob", "builder") == 200
    assert browser.open(reports) == 403
    assert browser.open(proxy) == 200
    assert intranet in browser.text
    assert reports not in browser.text


def test_the_second_start_needs_no_token(demo: Running) -> None:
    """State is kept: the connector is not enrolled again and nothing has to be published again."""
    assert "one-time token" not in demo.said
    assert "0 added, 0 changed, 3 unchanged" in demo.said


def test_two_demos(demo: Running, tmp_path: Path) -> None:
    """A second demo in the same folder, or on the same ports, is refused in one line."""
    for folder, words in ((demo.folder, "runs already"), (tmp_path / "other", "make demo PORT=")):
        command = [sys.executable, "-m", "appproxy.demo", "--port", str(demo.ports.clients), "--state-dir", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert done.returncode == 1
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    """After Ctrl-C all ports are free again and the exit code is 0."""
    ports = free_ports()
    with started(tmp_path / "demo", ports) as running:
        code, said = stop(running)
    assert (code, "stopped" in said) == (0, True), said
    assert ports.taken() == ""


def test_a_process_that_dies_is_named(tmp_path: Path) -> None:
    """When one of the processes dies the demo says which, shows its log, ends the others and itself, with code 1."""
    ports = free_ports()
    with started(tmp_path / "demo", ports) as running:
        found = subprocess.run(
            ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(running.process.pid)],
            capture_output=True,
            text=True,
            check=True,
        )
        connector = next(line for line in found.stdout.splitlines() if "appproxy-connector" in line)
        os.kill(int(connector.split()[0]), signal.SIGKILL)
        began = time.monotonic()
        said, _ = running.process.communicate(timeout=SECONDS)
        assert running.process.returncode == 1
        assert "connector ended by SIGKILL" in said
        assert "connector.ready" in said
        assert time.monotonic() - began < 20
        assert ports.taken() == ""
