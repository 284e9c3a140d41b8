"""Applications and connector groups: apply a file, list, show, enable, disable, put under maintenance, delete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from appproxy.applications import Application, ConnectorGroup, to_document
from appproxy.config.apply import LATER
from appproxy.config.converting import Place, convert
from appproxy.config.places import NODE_NAME
from appproxy.config.publishing import check_application, check_publishing
from appproxy.errors import ConfigError
from appproxy.relay.admin.call import Call, Problem
from appproxy.store import applications, connectors
from appproxy.store.applications import StoredApplication
from appproxy.store.differences import Diff, Item
from appproxy.store.interface import Database


class Applied(msgspec.Struct, forbid_unknown_fields=True):
    """An apply file as JSON, with the names it has in TOML; *dry_run* only asks what would change."""

    connector_group: list[dict[str, Any]] = []
    application: list[dict[str, Any]] = []
    dry_run: bool = False


async def apply(call: Call) -> dict[str, Any]:
    """Add and change what the document names, all or nothing; returns the difference."""
    asked = await call.body(Applied)
    relay = call.relay
    groups = [_group(table, position) for position, table in enumerate(asked.connector_group)]
    wanted = [_application(table, position) for position, table in enumerate(asked.application)]
    for kind, names in (("application", [each.id for each in wanted]), ("connector_group", [g.name for g in groups])):
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(kind, f'"{twice}" is there twice')
    check_publishing(wanted, relay.providers, relay.own_host)
    if asked.dry_run:
        diff = await relay.store.read(applications.apply, wanted, groups, relay.now(), True)
    else:
        diff = await relay.store.write(applications.apply, wanted, groups, relay.now())
        call.done(
            "applied",
            "applied a file: {added} added, {changed} changed",
            added=[item.key for item in diff.added],
            changed=[change.item.key for change in diff.changed],
        )
    return {"dry_run": asked.dry_run, **_difference(diff)}


def _group(table: dict[str, Any], position: int) -> ConnectorGroup:
    key = f"connector_group[{position}]"
    group = convert(table, ConnectorGroup, Place("apply"), LATER, Path(), key)
    if not NODE_NAME.fullmatch(group.name):
        raise ConfigError(f"{key}.name", f"{group.name!r} is not a name; use letters, digits, dots and hyphens")
    return group


def _application(table: dict[str, Any], position: int) -> Application:
    key = f"application[{table.get('id', position)}]"
    return check_application(convert(table, Application, Place("apply"), LATER, Path(), key), key)


def _difference(diff: Diff) -> dict[str, Any]:
    return {
        "added": [_item(item) for item in diff.added],
        "changed": [
            _item(change.item)
            | {
                "fields": [
                    {"path": each.path, "before": _json(each.before), "after": _json(each.after)}
                    for each in change.fields
                ]
            }
            for change in diff.changed
        ],
        "unchanged": [_item(item) for item in diff.unchanged],
    }


def _item(item: Item) -> dict[str, Any]:
    return {"kind": item.kind, "id": item.key}


def _json(text: str) -> msgspec.Raw:
    return msgspec.Raw(text.encode("utf-8"))


async def list_applications(call: Call) -> dict[str, Any]:
    """All applications, by id."""
    stored = await call.relay.store.read(applications.list_)
    online = await _online(call)
    return {
        "applications": [
            _outline(each) | {"connectors_online": online.get(each.application.connector_group, 0)} for each in stored
        ]
    }


async def _online(call: Call) -> dict[str, int]:
    """How many connectors of each group are here."""
    counts: dict[str, int] = {}
    for record in await call.relay.store.read(connectors.list_):
        if record.id in call.relay.live.by_connector:
            counts[record.group] = counts.get(record.group, 0) + 1
    return counts


def _outline(stored: StoredApplication) -> dict[str, Any]:
    """An application as its apply file would have it, and its version."""
    return {"version": stored.version, "settings": to_document(stored.application)}


async def show_application(call: Call) -> dict[str, Any]:
    """One application."""
    stored = await call.relay.store.read(applications.find, call.names[0])
    if stored is None:
        raise _no_application(call.names[0])
    return _outline(stored)


async def delete_application(call: Call) -> dict[str, Any]:
    """Publish an application no longer."""
    if not await call.relay.store.write(applications.delete, call.names[0]):
        raise _no_application(call.names[0])
    call.done("application-deleted", "deleted application {application}", application=call.names[0])
    return {"id": call.names[0]}


async def enable_application(call: Call) -> dict[str, Any]:
    """Serve an application again."""
    return await _change(call, "enabled", enabled=True)


async def disable_application(call: Call) -> dict[str, Any]:
    """Answer 404 where an application was, but keep its settings."""
    return await _change(call, "disabled", enabled=False)


async def begin_maintenance(call: Call) -> dict[str, Any]:
    """Answer 503 where an application was, with a page that says that it is being worked on."""
    return await _change(call, "put-under-maintenance", maintenance=True)


async def end_maintenance(call: Call) -> dict[str, Any]:
    """Serve an application again after maintenance."""
    return await _change(call, "taken-from-maintenance", maintenance=False)


async def _change(call: Call, done: str, **settings: bool) -> dict[str, Any]:
    application = call.names[0]
    version = await call.relay.store.write(_put_changed, application, settings)
    if version is None:
        raise _no_application(application)
    said = f"application {{application}} was {done.replace('-', ' ')}"
    call.done(f"application-{done}", said, application=application)
    return {"id": application, **settings, "version": version}


def _put_changed(db: Database, application: str, settings: dict[str, bool]) -> int | None:
    stored = applications.find(db, application)
    if stored is None:
        return None
    return applications.put(db, msgspec.structs.replace(stored.application, **settings))


async def list_groups(call: Call) -> dict[str, Any]:
    """All connector groups, by name, with how many use them."""
    stored = await call.relay.store.read(applications.list_groups)
    users = [each.application.connector_group for each in await call.relay.store.read(applications.list_)]
    members = [each.group for each in await call.relay.store.read(connectors.list_) if each.revoked is None]
    online = await _online(call)
    return {
        "groups": [
            {
                "name": name,
                "applications": users.count(name),
                "connectors": members.count(name),
                "connectors_online": online.get(name, 0),
            }
            for name in (each.group.name for each in stored)
        ]
    }


async def delete_group(call: Call) -> dict[str, Any]:
    """Remove a connector group that nothing uses."""
    if not await call.relay.store.write(applications.delete_group, call.names[0]):
        raise Problem(404, f"group {call.names[0]}", "there is no such connector group; see: appproxy group list")
    call.done("group-deleted", "deleted connector group {group}", group=call.names[0])
    return {"name": call.names[0]}


def _no_application(application: str) -> Problem:
    return Problem(404, f"application {application}", "there is no such application; see: appproxy app list")
