"""``appproxy apply``, ``export``, ``app`` and ``group``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from appproxy.applications import to_document
from appproxy.cli.command import Invocation
from appproxy.cli.relay import Refused, Relay, add_socket
from appproxy.cli.showing import Column, add_output, show, table, toml
from appproxy.config import read_apply
from appproxy.errors import ConfigError


def define(verb: str, parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    if verb == "apply":
        parser.add_argument("file", metavar="FILE")
        parser.add_argument("--dry-run", action="store_true", help="only say what would change")
        _finish(parser, apply)
    elif verb == "export":
        _finish(parser, export)
    elif verb == "app":
        verbs = parser.add_subparsers(metavar="VERB", required=True)
        _finish(verbs.add_parser("list", help="all applications"), list_applications)
        for name, purpose, what in (
            ("show", "one application, as an apply file has it", show_application),
            ("enable", "serve it again", enable_application),
            ("disable", "answer 404 in its place, keep its settings", disable_application),
            ("maintenance", "answer 503 in its place, with a page that says so", maintain_application),
            ("delete", "forget it", delete_application),
        ):
            own = verbs.add_parser(name, help=purpose)
            own.add_argument("id", metavar="ID")
            if name == "maintenance":
                own.add_argument("--off", action="store_true", help="it is over: serve the application again")
            _finish(own, what)
    else:
        verbs = parser.add_subparsers(metavar="VERB", required=True)
        _finish(verbs.add_parser("list", help="all connector groups"), list_groups)
        own = verbs.add_parser("delete", help="forget a group that nothing uses")
        own.add_argument("id", metavar="NAME")
        _finish(own, delete_group)


def _finish(parser: argparse.ArgumentParser, run: Any) -> None:
    add_socket(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def apply(invocation: Invocation) -> None:
    """Add and change what the file names; print the difference."""
    arguments = invocation.arguments
    file = read_apply(arguments.file)
    wanted = {
        "connector_group": [to_document(group) for group in file.groups],
        "application": [to_document(application) for application in file.applications],
        "dry_run": arguments.dry_run,
    }
    try:
        difference = Relay.of(invocation).ask("POST", "apply", body=wanted)
    except Refused as refusal:
        if refusal.status == 422:
            raise ConfigError(f"{arguments.file}: {refusal.where}", refusal.problem) from None
        raise
    show(arguments, difference, "\n".join(_lines(difference)))


def _lines(difference: dict[str, Any]) -> Iterator[str]:
    """The difference as people read it: ``+`` added, ``~`` changed with its fields, ``=`` unchanged."""
    for item in difference["added"]:
        yield f"+ {item['kind']} {item['id']}"
    for item in difference["changed"]:
        yield f"~ {item['kind']} {item['id']}"
        for field in item["fields"]:
            yield f"    {field['path']}: {_json(field['before'])} -> {_json(field['after'])}"
    for item in difference["unchanged"]:
        yield f"= {item['kind']} {item['id']}"
    counts = ", ".join(f"{len(difference[word])} {word}" for word in ("added", "changed", "unchanged"))
    yield f"dry run, nothing was done: {counts}" if difference["dry_run"] else counts


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def export(invocation: Invocation) -> None:
    """Print an apply file that makes another relay publish the same."""
    relay = Relay.of(invocation)
    document = {
        "connector_group": [{"name": each["name"]} for each in relay.ask("GET", "groups")["groups"]],
        "application": [each["settings"] for each in relay.ask("GET", "applications")["applications"]],
    }
    filled = {key: value for key, value in document.items() if value}
    show(invocation.arguments, document, toml(filled).rstrip("\n") or "# nothing is published")


def list_applications(invocation: Invocation) -> None:
    """All applications in a table."""
    document = Relay.of(invocation).ask("GET", "applications")
    rows = [{"name": "", **each["settings"], "online": each["connectors_online"]} for each in document["applications"]]
    columns: list[Column] = [
        ("ID", "id"),
        ("NAME", "name"),
        ("EXTERNAL URL", lambda row: _first_of(row, "external_url")),
        ("INTERNAL URL", lambda row: _first_of(row, "internal_url")),
        ("GROUP", "connector_group"),
        ("SIGN-IN", lambda row: row.get("preauthentication", "oidc")),
        ("STATE", _state),
        ("CONNECTORS", lambda row: f"{row['online']} online"),
    ]
    nothing = "nothing is published; add applications with: appproxy apply FILE"
    show(invocation.arguments, document, table(rows, columns, nothing))


def _first_of(settings: dict[str, Any], key: str) -> str:
    """The first URL of an application, and how many more there are."""
    urls = [settings[key]] if key in settings else []
    urls += [segment[key] for segment in settings.get("segment", ())]
    return f"{urls[0]} and {len(urls) - 1} more" if len(urls) > 1 else "".join(urls)


def _state(settings: dict[str, Any]) -> str:
    if not settings.get("enabled", True):
        return "disabled"
    return "maintenance" if settings.get("maintenance") else "enabled"


def show_application(invocation: Invocation) -> None:
    """One application as TOML."""
    document = Relay.of(invocation).ask("GET", "applications", invocation.arguments.id)
    show(invocation.arguments, document, toml({"application": [document["settings"]]}).rstrip("\n"))


def enable_application(invocation: Invocation) -> None:
    """Serve an application again."""
    _change(invocation, "POST", "enable", "is enabled")


def disable_application(invocation: Invocation) -> None:
    """Serve an application no longer, for now."""
    _change(invocation, "POST", "disable", "is disabled; its address answers 404")


def maintain_application(invocation: Invocation) -> None:
    """Say that an application is being worked on, or that it is over."""
    if invocation.arguments.off:
        _change(invocation, "DELETE", "maintenance", "is served again")
    else:
        _change(invocation, "POST", "maintenance", "is under maintenance; its address answers 503")


def delete_application(invocation: Invocation) -> None:
    """Serve an application no longer."""
    _change(invocation, "DELETE", "", "is deleted")


def _change(invocation: Invocation, method: str, verb: str, done: str) -> None:
    application = invocation.arguments.id
    segments = ["applications", application, *([verb] if verb else [])]
    document = Relay.of(invocation).ask(method, *segments)
    show(invocation.arguments, document, f"application {application} {done}")


def list_groups(invocation: Invocation) -> None:
    """All connector groups in a table."""
    document = Relay.of(invocation).ask("GET", "groups")
    columns: list[Column] = [
        ("NAME", "name"),
        ("APPLICATIONS", "applications"),
        ("CONNECTORS", lambda row: f"{row['connectors']}, {row['connectors_online']} online"),
    ]
    nothing = "there are no connector groups; add one with: appproxy apply FILE"
    show(invocation.arguments, document, table(document["groups"], columns, nothing))


def delete_group(invocation: Invocation) -> None:
    """Forget a connector group."""
    group = invocation.arguments.id
    document = Relay.of(invocation).ask("DELETE", "groups", group)
    show(invocation.arguments, document, f"connector group {group} is deleted")
