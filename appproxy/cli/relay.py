"""Calls to a relay: JSON over HTTP on its admin socket."""

from __future__ import annotations

import argparse
import json
import os
import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote

from appproxy.cli.command import Invocation
from appproxy.cli.failing import Failed
from appproxy.config.places import state_folder

DEFAULT_SOCKET = "/run/appproxy/admin.sock"
SOCKET_VARIABLE = "APPPROXY_ADMIN_SOCKET"
#: A relay answers in milliseconds; one that does not in this time is in trouble.
TIMEOUT_SECONDS = 30.0


class Refused(Failed):
    """The relay does not do it; *where* and *problem* say why."""

    def __init__(self, status: int, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.status = status
        self.where = where
        self.problem = problem


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        """Open the socket instead of a TCP connection."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Relay:
    """The relay behind one admin socket."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def of(cls, invocation: Invocation) -> Relay:
        """The one that ``--socket`` or the environment names; else the service's, else this user's own."""
        named = invocation.arguments.socket or invocation.environ.get(SOCKET_VARIABLE, "")
        if not named:
            own = state_folder(invocation.environ, "appproxy") / "admin.sock"
            named = str(own) if own.exists() and not Path(DEFAULT_SOCKET).exists() else DEFAULT_SOCKET
        return cls(named)

    def ask(self, method: str, *segments: str, query: str = "", body: object = None) -> Any:
        """Call ``/v1/segment/…``; returns the document of the answer.

        :raises Refused: the relay says why not.
        :raises Failed: there is no relay, or no sense in its answer.
        """
        target = "/v1/" + "/".join(quote(segment, safe="") for segment in segments) + query
        connection = _UnixConnection(self.path)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, target, content, {"Content-Type": "application/json"} if content else {})
            response = connection.getresponse()
            return self._read(response.status, response.read())
        except OSError as error:
            raise Failed(f"cannot reach the relay at {self.path}: {_reason(error)}") from None
        except HTTPException:
            raise Failed(f"what answers at {self.path} is not a relay; name its socket with --socket") from None
        finally:
            connection.close()

    def _read(self, status: int, body: bytes) -> Any:
        try:
            document = json.loads(body)
            if status == 200:
                return document
            problem = Refused(status, str(document["where"]), str(document["problem"]))
        except (ValueError, KeyError, TypeError):
            raise Failed(f"the relay at {self.path} answered {status} without a reason; see its log") from None
        raise problem


def add_socket(parser: argparse.ArgumentParser) -> None:
    """Let a verb be told which relay to talk to."""
    parser.add_argument("--socket", metavar="PATH", help=f"admin socket of the relay (default: {DEFAULT_SOCKET})")


def _reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such socket; is appproxy-relay running, and do you run as its user?"
    if isinstance(error, PermissionError):
        return "permission denied; run as the user of appproxy-relay, or as root"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; is appproxy-relay running?"
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:g} s; see the relay's log"
    return f"{(os.strerror(error.errno) if error.errno else str(error)).lower()}; name its socket with --socket"
