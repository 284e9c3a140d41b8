"""``appproxy token service``, ``services`` and ``revoke``: tokens of programs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from appproxy.cli.command import Invocation
from appproxy.cli.relay import Relay
from appproxy.cli.showing import Column, moment, show, table


def define_service_tokens(verbs: Any) -> dict[Callable[[Invocation], None], argparse.ArgumentParser]:
    """The verbs and their arguments."""
    making = verbs.add_parser("service", help="make a token for a program")
    making.add_argument("name", metavar="NAME", help="what the program is called")
    making.add_argument("--owner", metavar="O", required=True, help="who answers for it")
    making.add_argument(
        "--application", metavar="A", action="append", help="what it opens (default: all); repeat for more"
    )
    making.add_argument("--path", metavar="P", action="append", help="which paths (default: all); repeat for more")
    making.add_argument("--expires", metavar="TIME", default="90d", help="how long it is good (default: 90d)")
    revoking = verbs.add_parser("revoke", help="put a program's token out of force")
    revoking.add_argument("id", metavar="ID")
    return {
        make_service_token: making,
        list_service_tokens: verbs.add_parser("services", help="tokens of programs, revoked ones included"),
        revoke_service_token: revoking,
    }


def make_service_token(invocation: Invocation) -> None:
    """Print a new token, alone on one line."""
    arguments = invocation.arguments
    wanted = {
        "name": arguments.name,
        "owner": arguments.owner,
        "applications": arguments.application or [],
        "paths": arguments.path or [],
        "expires": arguments.expires,
    }
    document = Relay.of(invocation).ask("POST", "service-tokens", body=wanted)
    show(arguments, document, document["token"])


def list_service_tokens(invocation: Invocation) -> None:
    """Tokens of programs in a table."""
    document = Relay.of(invocation).ask("GET", "service-tokens")
    columns: list[Column] = [
        ("ID", "id"),
        ("NAME", "name"),
        ("OWNER", "owner"),
        ("APPLICATIONS", lambda row: " ".join(row["applications"]) or "all"),
        ("PATHS", lambda row: " ".join(row["paths"]) or "all"),
        ("EXPIRES", lambda row: moment(row["expires"])),
        ("LAST USED", lambda row: moment(row["last_used"])),
        ("REVOKED", lambda row: moment(row["revoked"])),
    ]
    nothing = "there are no tokens of programs; make one with: appproxy token service NAME --owner O"
    show(invocation.arguments, document, table(document["tokens"], columns, nothing))


def revoke_service_token(invocation: Invocation) -> None:
    """Put a token out of force."""
    id = invocation.arguments.id
    document = Relay.of(invocation).ask("DELETE", "service-tokens", id)
    show(invocation.arguments, document, f"token {id} is revoked; what is open for it ends now")
