"""Clients of the live tests: a browser without a window, and raw octets over TLS."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPSConnection
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode, urljoin, urlsplit

TIMEOUT_SECONDS = 20.0
NAVIGATES = {
    "Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}
FETCHES = {"Accept": "application/json", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}


class Answer(NamedTuple):
    """A whole answer, and the address that gave it."""

    url: str
    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def value(self, name: str) -> str:
        """The value of a field that comes once at most; empty if it does not."""
        values = self.values(name)
        assert len(values) <= 1, (name, values)
        return values[0] if values else ""

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class LoopbackTLS(HTTPSConnection):
    """https to any name, all of which are this machine."""

    def connect(self) -> None:
        """Dial loopback, but ask for the name."""
        raw = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._context.wrap_socket(raw, server_hostname=self.host)  # type: ignore[attr-defined]


class Browser:
    """Keeps cookies by host and path, follows redirects, fills in forms."""

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        #: By host: name and path to value.
        self.jars: dict[str, dict[tuple[str, str], str]] = {}
        #: Every address of the last walk, with the Set-Cookie fields of its answer.
        self.trail: list[Answer] = []

    def cookie(self, host: str, name: str) -> str:
        """The value of a cookie for the whole of *host*; empty if there is none."""
        return self.jars.get(host, {}).get((name, "/"), "")

    def ask(
        self,
        url: str,
        *,
        method: str = "GET",
        fields: Mapping[str, str] = NAVIGATES,
        body: bytes | None = None,
    ) -> Answer:
        """One request on a connection of its own; no redirect is followed."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        kind = {"https": LoopbackTLS, "http": HTTPConnection}[parts.scheme]
        more: dict[str, Any] = {"context": self._tls} if parts.scheme == "https" else {}
        jar = self.jars.setdefault(host, {})
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        cookies = [f"{name}={value}" for (name, path), value in jar.items() if parts.path.startswith(path)]
        sent = {**({"Cookie": "; ".join(cookies)} if cookies else {}), **fields}
        connection = kind(host, parts.port or 443, timeout=TIMEOUT_SECONDS, **more)
        try:
            connection.request(method, target, body, sent)
            response = connection.getresponse()
            answer = Answer(url, response.status, response.getheaders(), response.read())
        finally:
            connection.close()
        for line in answer.values("Set-Cookie"):
            self._keep(jar, line)
        return answer

    def _keep(self, jar: dict[tuple[str, str], str], line: str) -> None:
        first, *attributes = (part.strip() for part in line.split(";"))
        name, _, value = first.partition("=")
        given = {key.lower(): text for key, _, text in (each.partition("=") for each in attributes)}
        key = name, given.get("path", "/")
        if given.get("max-age") == "0" or "1970" in given.get("expires", ""):
            jar.pop(key, None)
        else:
            jar[key] = value

    def follow(self, answer: Answer, until: str = "") -> Answer:
        """Follow redirects to the end, or up to the one that leads to an address beginning with *until*."""
        self.trail = [answer]
        while location := answer.value("Location"):
            url = urljoin(answer.url, location)
            if until and url.startswith(until):
                return answer
            assert len(self.trail) < 15, [each.url for each in self.trail]
            answer = self.ask(url)
            self.trail.append(answer)
        return answer

    def open(self, url: str, until: str = "") -> Answer:
        """Ask for a page and follow its redirects."""
        return self.follow(self.ask(url), until)

    def submit(self, page: Answer, until: str = "", **values: str) -> Answer:
        """Send the page's (only, or last) form with its hidden fields and *values*, and follow."""
        forms = re.findall(r"<form.*?</form>", page.text, re.DOTALL)
        assert forms, page.text
        form = forms[-1]
        action = re.search(r'action="([^"]*)"', form)
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))
        url = urljoin(page.url, action[1] if action else page.url)
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        fields = {
            **NAVIGATES,
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": origin,
            "Sec-Fetch-Site": "same-origin",
        }
        sent = self.ask(url, method="POST", fields=fields, body=urlencode({**hidden, **values}).encode())
        return self.follow(sent, until)

    def sign_in(self, url: str, name: str, password: str, until: str = "") -> Answer:
        """Open a page as somebody who must sign in first."""
        form = self.open(url)
        assert 'name="password"' in form.text, (form.url, form.status, form.text)
        return self.submit(form, until, username=name, password=password)


class Raw:
    """One TLS connection to a relay's client port, or a plain one; every wait is bounded.

    :param tls: None for a plain one.
    :param receive_buffer: of the kernel, in bytes; small for a reader that takes little in advance.
    :param address: of loopback, where the client seems to be.
    """

    def __init__(
        self,
        port: int,
        tls: ssl.SSLContext | None,
        name: str,
        timeout: float = TIMEOUT_SECONDS,
        *,
        receive_buffer: int = 0,
        address: str = "127.0.0.1",
    ) -> None:
        plain = socket.socket()
        plain.settimeout(timeout)
        if receive_buffer:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            plain.bind((address, 0))
            plain.connect(("127.0.0.1", port))
            self.socket: Any = tls.wrap_socket(plain, server_hostname=name) if tls is not None else plain
        except OSError:
            plain.close()
            raise
        self.received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, octets: bytes) -> None:
        """Send them all."""
        self.socket.sendall(octets)

    def until(self, what: bytes, seconds: float = TIMEOUT_SECONDS) -> bytes:
        """Receive until *what* has come; give everything up to its end.

        :raises AssertionError: the connection ended or the time was over before.
        """
        deadline = time.monotonic() + seconds
        while what not in self.received:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                piece = self.socket.recv(65536)
            except (TimeoutError, ConnectionError) as late:
                raise AssertionError(f"{what!r} did not come: {late!r}; {self.received[-500:]!r}") from None
            assert piece, f"closed before {what!r}: {self.received[-500:]!r}"
            self.received += piece
        end = self.received.index(what) + len(what)
        taken, self.received = self.received[:end], self.received[end:]
        return taken

    def rest(self, seconds: float = TIMEOUT_SECONDS) -> bytes:
        """Everything until the connection ends, however it does; :raises AssertionError: it does not in time."""
        deadline = time.monotonic() + seconds
        while True:
            self.socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                piece = self.socket.recv(65536)
            except TimeoutError:
                raise AssertionError(f"still open; {self.received[-500:]!r}") from None
            except OSError:
                piece = b""
            if not piece:
                taken, self.received = self.received, b""
                return taken
            self.received += piece
