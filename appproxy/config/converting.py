"""A TOML document into typed settings, with the exact place of every mistake.

msgspec converts the leaves; the walk over tables is ours, because an error has to name ``provider[1].issuer`` and the
nearest known key, and because keys of later releases have to be told apart from misspelt ones.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec

from appproxy.errors import ConfigError

T = TypeVar("T")
Network = IPv4Network | IPv6Network

#: Keys that a later release will understand, with the values of them that already hold because they ask for nothing.
#: Written without list positions: ``provider.private_key_file``.
Later = Mapping[str, tuple[object, ...]]

_TOML_NAMES = {dict: "a table", list: "a list", str: "text", bool: "true or false", int: "a whole number"}


class Place:
    """Where a value was written; the ``where`` of errors about it.

    :param document: the file as the administrator named it.
    :param variables: dotted key to the environment variable that overrode it.
    """

    def __init__(self, document: str, variables: Mapping[str, str] | None = None) -> None:
        self.document = document
        self.variables = variables or {}

    def of(self, key: str) -> str:
        """Name the setting *key* for an error."""
        return self.variables.get(key.partition("[")[0]) or f"{self.document}: {key}"

    def error(self, key: str, problem: str) -> ConfigError:
        """What to raise when *key* is wrong."""
        return ConfigError(self.of(key), problem)


def suggest(wrong: str, known: Iterable[str]) -> str:
    """The end of a sentence: the nearest known name, or all of them when none is near."""
    known = sorted(known)
    if near := difflib.get_close_matches(wrong, known, n=1):
        return f'did you mean "{near[0]}"?'
    return f"known: {', '.join(known)}"


def convert(value: object, kind: type[T], place: Place, later: Later, folder: Path, key: str = "") -> T:
    """Turn *value*, as TOML gave it, into *kind*.

    :param later: what to say "not available in this release" about.
    :param folder: what relative paths start from: the folder of the file.
    :param key: the dotted key of *value*; empty for the whole document.
    :raises ConfigError: for anything unknown, missing, of the wrong type or malformed.
    """
    return _Conversion(place, later, folder).convert(value, kind, key)  # type: ignore[no-any-return]


class _Conversion:
    """One walk; holds what every step needs."""

    def __init__(self, place: Place, later: Later, folder: Path) -> None:
        self.place = place
        self.later = later
        self.folder = folder

    def convert(self, value: object, kind: Any, key: str) -> Any:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and not hasattr(kind, "parse"):
            return self.table(self.expect(value, dict, key), kind, key)
        if get_origin(kind) is tuple:
            inner = get_args(kind)[0]
            items = self.expect(value, list, key)
            return tuple(self.convert(item, inner, f"{key}[{position}]") for position, item in enumerate(items))
        if get_origin(kind) is dict:
            inner = get_args(kind)[1]
            table = self.expect(value, dict, key)
            return {name: self.convert(item, inner, f"{key}.{name}") for name, item in table.items()}
        if get_origin(kind) is Literal:
            return self.choice(value, get_args(kind), key)
        if isinstance(kind, UnionType) and type(None) in get_args(kind):
            (inner,) = (each for each in get_args(kind) if each is not type(None))
            return None if value == "" else self.convert(value, inner, key)
        return self.leaf(value, kind, key)

    def table(self, table: dict[str, Any], kind: type[msgspec.Struct], key: str) -> msgspec.Struct:
        found = {}
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        for name, value in table.items():
            path = f"{key}.{name}" if key else name
            if self.is_later(path, value) and name not in fields:
                continue
            if name not in fields:
                raise self.place.error(path, f"unknown key; {suggest(name, fields)}")
            found[name] = self.convert(value, fields[name].type, path)
        for name, field in fields.items():
            if field.required and name not in found:
                raise self.place.error(f"{key}.{name}" if key else name, "is missing")
        return kind(**found)

    def is_later(self, key: str, value: object) -> bool:
        """Whether *key* belongs to a later release and asks for nothing."""
        harmless = self.later.get(re.sub(r"\[[^]]*\]", "", key))
        if harmless is None:
            return False
        if not any(value == each and type(value) is type(each) for each in harmless):
            raise self.place.error(key, "not available in this release; remove it")
        return True

    def choice(self, value: object, choices: tuple[str, ...], key: str) -> object:
        if value in choices:
            return value
        text = ", ".join(f'"{choice}"' for choice in choices)
        raise self.place.error(key, f"{_shown(value)} is not one of {text}")

    def leaf(self, value: object, kind: Any, key: str) -> object:
        parse: Callable[[object], object] | None = getattr(kind, "parse", None) or self.parsers.get(kind)
        if parse is None:
            self.expect(value, kind, key)
            return value
        try:
            return parse(value)
        except ValueError as error:
            raise self.place.error(key, str(error)) from None

    @property
    def parsers(self) -> dict[object, Callable[[object], object]]:
        return {Path: self.path, Network: _network}

    def path(self, value: object) -> Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise ValueError(f"{_shown(value)} is not a path")
        return self.folder / value

    def expect(self, value: Any, kind: type, key: str) -> Any:
        if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
            return value
        raise self.place.error(key, f"{_shown(value)} is not {_TOML_NAMES[kind]}")


def _network(value: object) -> Network:
    try:
        return ip_network(str(value))
    except ValueError:
        raise ValueError(f'{_shown(value)} is not a network; write "10.0.0.0/8" or "2001:db8::/32"') from None


def _shown(value: object) -> str:
    """A value as the file has it, short."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
