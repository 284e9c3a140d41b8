"""The apply file: applications and connector groups as administrators write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from appproxy.applications import Application, ConnectorGroup, Value
from appproxy.config.converting import Place, convert, suggest
from appproxy.config.places import NODE_NAME
from appproxy.config.publishing import check_application, check_overlap
from appproxy.config.reading import read_toml
from appproxy.errors import ConfigError

#: Keys of later releases, and the values of them that ask for nothing.
LATER: dict[str, tuple[object, ...]] = {}
_LATER_MODES = ("form", "token", "basic")


class ApplyFile(Value, frozen=True):
    """What one file names.  URLs are canonical."""

    groups: tuple[ConnectorGroup, ...] = ()
    applications: tuple[Application, ...] = ()


def read_apply(path: str | Path) -> ApplyFile:
    """Read and check an apply file, as far as that goes without the relay it is for.

    :raises ConfigError: one line naming the setting and the remedy.
    """
    return parse_apply(read_toml(Path(path), str(path)), str(path))


def parse_apply(document: Mapping[str, Any], shown: str) -> ApplyFile:
    """Check an apply file that has been read already, or came as JSON with the same names.

    :param shown: what errors call it.
    :raises ConfigError: one line naming the setting and the remedy.
    """
    place = Place(shown)
    for key in document:
        if key not in ("application", "connector_group"):
            raise place.error(key, f"unknown key; {suggest(key, ('application', 'connector_group'))}")
    groups = _groups(document.get("connector_group", []), place)
    applications = _applications(document.get("application", []), place)
    try:
        check_overlap(applications)
    except ConfigError as error:
        raise place.error(error.where, error.problem) from None
    return ApplyFile(groups=groups, applications=applications)


def _groups(tables: object, place: Place) -> tuple[ConnectorGroup, ...]:
    groups = convert(tables, tuple[ConnectorGroup, ...], place, LATER, Path(), "connector_group")
    names = [group.name for group in groups]
    for position, name in enumerate(names):
        key = f"connector_group[{position}].name"
        if not NODE_NAME.fullmatch(name):
            raise place.error(key, f"{name!r} is not a name; use letters, digits, dots and hyphens")
        if names.index(name) != position:
            raise place.error(key, f'there are two groups "{name}"; names are unique')
    return groups


def _applications(tables: object, place: Place) -> tuple[Application, ...]:
    if not isinstance(tables, list):
        raise place.error("application", "is written [[application]], with two brackets")
    applications: dict[str, Application] = {}
    for position, table in enumerate(tables):
        named = isinstance(table, dict) and isinstance(table.get("id"), str) and NODE_NAME.fullmatch(table["id"])
        key = f"application[{table['id'] if named else position}]"
        application = _application(table, key, place)
        if application.id in applications:
            raise place.error(f"{key}.id", f'there are two applications "{application.id}"; ids are unique')
        applications[application.id] = application
    return tuple(applications.values())


def _application(table: Any, key: str, place: Place) -> Application:
    if isinstance(table, dict):
        table = _one_group(table, key, place)
        sso = table.get("sso")
        if isinstance(sso, dict) and sso.get("mode") in _LATER_MODES:
            raise place.error(
                f"{key}.sso.mode", f'"{sso["mode"]}" is not available in this release; use none, header or kerberos'
            )
    application = convert(table, Application, place, LATER, Path(), key)
    return check_application(application, place.of(key))


def _one_group(table: dict[str, Any], key: str, place: Place) -> dict[str, Any]:
    """An application's table with one connector group, which may have been written as a list of one."""
    groups = table.get("connector_group")
    if not isinstance(groups, list):
        return table
    if len(groups) != 1:
        raise place.error(f"{key}.connector_group", "fail-over groups are not available in this release; name one")
    return {**table, "connector_group": groups[0]}
