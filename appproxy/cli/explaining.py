"""``appproxy explain``."""

from __future__ import annotations

import argparse
from typing import Any

from appproxy.cli.command import Invocation
from appproxy.cli.failing import Failed
from appproxy.cli.relay import Relay, add_socket
from appproxy.cli.showing import add_output, show


def define(verb: str, parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("url", metavar="URL", help="what would be asked for")
    parser.add_argument(
        "--user", metavar="U", default="", help="by whom; without it, by somebody who has not signed in"
    )
    parser.add_argument("--method", metavar="M", default="GET", help="default: GET")
    parser.add_argument("--from", metavar="IP", dest="client", default="", help="the client's address")
    parser.add_argument("--group", metavar="G", action="append", help="a group of the user; may be given again")
    parser.add_argument("--claim", metavar="NAME=VALUE", action="append", help="a claim; may be given again")
    add_socket(parser)
    add_output(parser)
    parser.set_defaults(run=explain)


def explain(invocation: Invocation) -> None:
    """Say what would become of a request."""
    arguments = invocation.arguments
    asked = {"url": arguments.url, "user": arguments.user, "method": arguments.method, "client": arguments.client}
    if arguments.group or arguments.claim:
        asked |= {"groups": arguments.group or [], "claims": _claims(arguments.claim or ())}
    document = Relay.of(invocation).ask("POST", "explain", body=asked)
    show(arguments, document, _text(document))


def _claims(given: Any) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not name or not equals:
            raise Failed(f"--claim {each}: write NAME=VALUE")
        claims[name] = value if name not in claims else [*_list(claims[name]), value]
    return claims


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _text(document: dict[str, Any]) -> str:
    verdict = {True: "allowed", False: "refused", None: "asked to sign in"}[document["allowed"]]
    lines = [("verdict", f"{verdict}: {', '.join(document['reasons'])}")]
    if document["application"] is None:
        lines.append(("application", f"none; {document['detail']}"))
    else:
        lines.append(("application", f"{document['application']} at {document['external_url']}"))
    if document["user"]:
        sources = {"session": "as the newest sign-in says", "question": "with the groups and claims given here"}
        lines.append(("user", f"{document['user']}, {sources[document['known_from']]}"))
    if "sign_in" in document:
        lines.append(("sign-in", document["sign_in"]))
    if document.get("rules"):
        lines.append(("rules", ", ".join(document["rules"])))
    if step_up := document.get("step_up"):
        wanted = [f"within {step_up['max_age']} s"] if step_up["max_age"] else []
        lines.append(("needs", f"a sign-in {' '.join([*wanted, *step_up['acr']])}"))
    if "connectors" in document:
        lines.append(("connectors", ", ".join(document["connectors"]) or "none is here"))
    if origin := document.get("origin"):
        lines += [("origin", origin["address"]), ("request", origin["request"]), ("Host", origin["host"])]
        told = origin["single_sign_on"]
        lines.append(("single sign-on", told["mode"] + (f" as {told['user']}" if "user" in told else "")))
        for name, value in told.get("headers", {}).items():
            lines.append((f"  {name}", value if isinstance(value, str) else ",".join(value)))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines)
