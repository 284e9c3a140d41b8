"""``appproxy session`` and ``status``."""

from __future__ import annotations

import argparse
from urllib.parse import quote

from appproxy.cli.command import Invocation
from appproxy.cli.relay import Relay, add_socket
from appproxy.cli.showing import Column, add_output, moment, show, table


def define(verb: str, parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    if verb == "status":
        parsers = {status: parser}
    else:
        verbs = parser.add_subparsers(metavar="VERB", required=True)
        listing = verbs.add_parser("list", help="who is signed in")
        listing.add_argument("--user", metavar="U", help="only this user's")
        ending = verbs.add_parser("end", help="end one sign-in, or all of a user")
        which = ending.add_mutually_exclusive_group(required=True)
        which.add_argument("--user", metavar="U", help="every sign-in of this user")
        which.add_argument("id", nargs="?", metavar="ID", help="the sign-in that this session belongs to")
        parsers = {list_sessions: listing, end_sessions: ending}
    for run, own in parsers.items():
        add_socket(own)
        add_output(own)
        own.set_defaults(run=run)


def list_sessions(invocation: Invocation) -> None:
    """Live sessions in a table, newest first."""
    user = invocation.arguments.user
    query = "" if user is None else f"?user={quote(user, safe='')}"
    document = Relay.of(invocation).ask("GET", "sessions", query=query)
    columns: list[Column] = [
        ("ID", "id"),
        ("USER", "user"),
        ("HOST", "host"),
        ("APPLICATION", "application"),
        ("PROVIDER", "provider"),
        ("FROM", "client"),
        ("SINCE", lambda row: moment(row["created"])),
        ("LAST SEEN", lambda row: moment(row["last_seen"])),
        ("UNTIL", lambda row: moment(row["until"])),
    ]
    show(invocation.arguments, document, table(document["sessions"], columns, "nobody is signed in"))


def end_sessions(invocation: Invocation) -> None:
    """End the sessions of one sign-in, or all of a user."""
    arguments = invocation.arguments
    if arguments.user is not None:
        document = Relay.of(invocation).ask("DELETE", "sessions", query=f"?user={quote(arguments.user, safe='')}")
        whose = f"of {arguments.user}"
    else:
        document = Relay.of(invocation).ask("DELETE", "sessions", arguments.id)
        whose = "of this sign-in"
    ended = document["ended"]
    show(arguments, document, f"{ended} session{'' if ended == 1 else 's'} {whose} ended")


def status(invocation: Invocation) -> None:
    """The relay's state, a line for each thing."""
    document = Relay.of(invocation).ask("GET", "status")
    published, connectors = document["applications"], document["connectors"]
    lines = [
        f"version       {document['version']}",
        f"applications  {published['published']} published, {published['disabled']} disabled",
        f"connectors    {connectors['enrolled']} enrolled, {connectors['online']} online",
        f"sessions      {document['sessions']}",
        f"authority     SHA-256 {document['authority']['fingerprint']}",
        f"              until {moment(document['authority']['until'])}",
    ]
    show(invocation.arguments, document, "\n".join(lines))
