"""``appproxy connector`` and ``token``."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from appproxy.cli import doctor
from appproxy.cli.command import Invocation
from appproxy.cli.relay import Relay, add_socket
from appproxy.cli.service_tokens import define_service_tokens
from appproxy.cli.showing import Column, add_output, moment, show, table


def define(verb: str, parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    if verb == "token":
        parsers = _define_tokens(verbs)
    else:
        revoking = verbs.add_parser("revoke", help="shut a connector out for good")
        revoking.add_argument("id", metavar="ID")
        moving = verbs.add_parser("move", help="let a connector serve another group")
        moving.add_argument("id", metavar="ID")
        moving.add_argument("--group", metavar="G", required=True, help="its new group")
        listing = verbs.add_parser("list", help="all connectors")
        parsers = {list_connectors: listing, move_connector: moving, revoke_connector: revoking}
        doctor.define(
            verbs.add_parser("doctor", help="on the connector's machine: whether Kerberos works, and why not")
        )
        _define_enrol(verbs.add_parser("enrol", help="on the connector's machine: get its certificate from the relay"))
    for run, own in parsers.items():
        add_socket(own)
        add_output(own)
        own.set_defaults(run=run)


def _define_tokens(verbs: Any) -> dict[Callable[[Invocation], None], argparse.ArgumentParser]:
    issuing = verbs.add_parser("enrol", help="issue a one-time token that enrols one connector")
    issuing.add_argument("--group", metavar="G", required=True, help="the connector's group")
    issuing.add_argument("--expires", metavar="TIME", default="1h", help="how long it is good (default: 1h)")
    return {
        issue_token: issuing,
        list_tokens: verbs.add_parser("list", help="enrolment tokens, used ones included"),
        **define_service_tokens(verbs),
    }


def _define_enrol(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--relay", metavar="URL", required=True, help="where connectors come in, https://host[:port]")
    parser.add_argument("--token-file", metavar="F", required=True, type=Path, help="the file with the one-time token")
    parser.add_argument("--state-dir", metavar="D", required=True, type=Path, help="where key and certificate are kept")
    parser.add_argument("--name", metavar="N", default=socket.gethostname(), help="default: the host name")
    parser.add_argument("--relay-ca-file", metavar="F", type=Path, help="instead of the authority that the token names")
    add_output(parser)
    parser.set_defaults(run=enrol_connector)


def enrol_connector(invocation: Invocation) -> int:
    """Get the connector on this machine its certificate."""
    from appproxy.cli.enrolment import enrol

    return enrol(invocation)


def issue_token(invocation: Invocation) -> None:
    """Print a new enrolment token, alone on one line."""
    arguments = invocation.arguments
    wanted = {"group": arguments.group, "expires": arguments.expires}
    document = Relay.of(invocation).ask("POST", "tokens", body=wanted)
    show(arguments, document, document["token"])


def list_tokens(invocation: Invocation) -> None:
    """Enrolment tokens in a table, newest first; their text is not kept anywhere."""
    document = Relay.of(invocation).ask("GET", "tokens")
    columns: list[Column] = [
        ("ID", "id"),
        ("GROUP", "group"),
        ("ISSUED", lambda row: moment(row["issued"])),
        ("EXPIRES", lambda row: moment(row["expires"])),
        ("USED", lambda row: moment(row["used"])),
    ]
    nothing = "there are no tokens; issue one with: appproxy token enrol --group G"
    show(invocation.arguments, document, table(document["tokens"], columns, nothing))


def list_connectors(invocation: Invocation) -> None:
    """All connectors in a table."""
    document = Relay.of(invocation).ask("GET", "connectors")
    columns: list[Column] = [
        ("ID", "id"),
        ("NAME", "name"),
        ("GROUP", "group"),
        ("STATE", "state"),
        ("CHANNELS", "channels"),
        ("PEER", "peer"),
        ("SINCE", lambda row: moment(row["since"])),
        ("ENROLLED", lambda row: moment(row["enrolled"])),
        ("CERTIFICATE UNTIL", lambda row: moment(row["certificate_until"])),
    ]
    nothing = "there are no connectors; enrol one with a token from: appproxy token enrol --group G"
    show(invocation.arguments, document, table(document["connectors"], columns, nothing))


def move_connector(invocation: Invocation) -> None:
    """Let a connector serve another group."""
    connector, group = invocation.arguments.id, invocation.arguments.group
    document = Relay.of(invocation).ask("POST", "connectors", connector, "move", body={"group": group})
    show(invocation.arguments, document, f"connector {connector} serves group {group} now")


def revoke_connector(invocation: Invocation) -> None:
    """Shut a connector out."""
    connector = invocation.arguments.id
    document = Relay.of(invocation).ask("POST", "connectors", connector, "revoke")
    show(invocation.arguments, document, f"connector {connector} is revoked; its channels end now")
