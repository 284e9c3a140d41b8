"""``appproxy authority``: the relay's own authorities, and how one takes over from another."""

from __future__ import annotations

import argparse

from appproxy.cli.command import Invocation
from appproxy.cli.relay import Relay, add_socket
from appproxy.cli.showing import Column, add_output, moment, show, table


def define(verb: str, parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    using = verbs.add_parser("use", help="let one issue from now on; connectors renew their certificates")
    using.add_argument("id", metavar="ID")
    removing = verbs.add_parser("remove", help="trust one no more")
    removing.add_argument("id", metavar="ID")
    removing.add_argument("--force", action="store_true", help="although connectors have certificates of it")
    parsers = {
        list_authorities: verbs.add_parser("list", help="those that are trusted, the one that issues first"),
        add_authority: verbs.add_parser("add", help="make one more, that is trusted and does not issue yet"),
        use_authority: using,
        remove_authority: removing,
    }
    for run, own in parsers.items():
        add_socket(own)
        add_output(own)
        own.set_defaults(run=run)


def list_authorities(invocation: Invocation) -> None:
    """Authorities in a table."""
    document = Relay.of(invocation).ask("GET", "authorities")
    columns: list[Column] = [
        ("ID", "id"),
        ("ISSUES", lambda row: "yes" if row["issues"] else "no"),
        ("UNTIL", lambda row: moment(row["until"])),
        ("CONNECTORS", "connectors"),
    ]
    show(invocation.arguments, document, table(document["authorities"], columns, "there are no authorities"))


def add_authority(invocation: Invocation) -> None:
    """Make one more."""
    document = Relay.of(invocation).ask("POST", "authorities")
    name = document["id"]
    then = f"when all connectors have been here since: appproxy authority use {name}"
    show(invocation.arguments, document, f"authority {name} is trusted now; {then}")


def use_authority(invocation: Invocation) -> None:
    """Let one issue."""
    name = invocation.arguments.id
    document = Relay.of(invocation).ask("POST", "authorities", name, "use")
    then = "tokens issued before are of no use any more; see how far connectors are with: appproxy authority list"
    show(invocation.arguments, document, f"authority {name} issues from now on; {then}")


def remove_authority(invocation: Invocation) -> None:
    """Trust one no more."""
    name, force = invocation.arguments.id, invocation.arguments.force
    document = Relay.of(invocation).ask("DELETE", "authorities", name, query="?force=1" if force else "")
    show(invocation.arguments, document, f"authority {name} is trusted no more")
