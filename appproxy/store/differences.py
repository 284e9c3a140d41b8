"""What an apply file changes, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import msgspec


class Item(NamedTuple):
    """One thing that a file can name."""

    kind: Literal["application", "group"]
    key: str


class FieldChange(NamedTuple):
    """One setting, by its path in the file, as JSON text before and after."""

    path: str
    before: str
    after: str


class Changed(NamedTuple):
    """An item that was there and differs."""

    item: Item
    fields: tuple[FieldChange, ...]


class Diff(NamedTuple):
    """What applying a file did, or would do."""

    added: tuple[Item, ...]
    changed: tuple[Changed, ...]
    unchanged: tuple[Item, ...]


def differences(before: msgspec.Struct, after: msgspec.Struct) -> tuple[FieldChange, ...]:
    """Where two values of one kind differ, defaults included."""
    return tuple(_walk(before, after, ""))


def _walk(before: msgspec.Struct, after: msgspec.Struct, prefix: str) -> Iterator[FieldChange]:
    for name in before.__struct_fields__:
        old, new = getattr(before, name), getattr(after, name)
        if old == new:
            continue
        if isinstance(old, msgspec.Struct):
            yield from _walk(old, new, f"{prefix}{name}.")
        else:
            yield FieldChange(prefix + name, _text(old), _text(new))


def _text(value: object) -> str:
    return msgspec.json.encode(value, enc_hook=str).decode()
