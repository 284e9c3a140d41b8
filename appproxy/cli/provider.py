"""``appproxy idp``: the development identity provider."""

from __future__ import annotations

import argparse
from pathlib import Path

from appproxy.cli.command import Invocation
from appproxy.config.places import state_folder


def define(verb: str, parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    serving = verbs.add_parser("serve", help="let the users of a file sign in, on this machine only, until Ctrl-C")
    serving.add_argument("--users", metavar="FILE", required=True, type=Path, help="a TOML file with users and clients")
    serving.add_argument("--port", metavar="N", default=8400, type=_port, help="default: 8400; 0 for any free one")
    serving.add_argument("--host", metavar="ADDRESS", default="127.0.0.1", help="of this machine only")
    serving.add_argument("--state-dir", metavar="D", type=Path, help="where its key is kept")
    serving.set_defaults(run=serve)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def serve(invocation: Invocation) -> int:
    """Run the provider until it is interrupted."""
    from twisted.internet import reactor

    from appproxy.cli.waiting import run_until_done
    from appproxy.devidp import service

    arguments = invocation.arguments
    state_dir = arguments.state_dir or state_folder(invocation.environ, "appproxy-idp")
    run_until_done(reactor, service.serve(arguments.users, arguments.port, state_dir, arguments.host, reactor, _tell))
    return 0


def _tell(notice: str) -> None:
    print(notice, flush=True)
