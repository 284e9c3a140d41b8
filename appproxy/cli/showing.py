"""What commands print: aligned tables, JSON, TOML, times."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

#: A column: its title, and a key of the row or what makes the text of it.
Column = tuple[str, "str | Callable[[dict[str, Any]], object]"]


def add_output(parser: argparse.ArgumentParser) -> None:
    """Let a verb be told how to print."""
    parser.add_argument("--output", choices=("table", "json"), default="table", help="for people, or for programs")


def show(arguments: argparse.Namespace, document: Any, text: str) -> None:
    """Print the document as it came, or *text*, as ``--output`` says."""
    print(json.dumps(document, indent=2, ensure_ascii=False) if arguments.output == "json" else text)


def table(rows: Sequence[dict[str, Any]], columns: Sequence[Column], nothing: str) -> str:
    """Rows under titles, columns aligned; *nothing* when there is no row."""
    if not rows:
        return nothing
    cells = [
        [title for title, _ in columns],
        *([_text(row[value] if isinstance(value, str) else value(row)) for _, value in columns] for row in rows),
    ]
    widths = [max(len(line[position]) for line in cells) for position in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
    return "\n".join(line.rstrip() for line in lines)


def _text(value: object) -> str:
    """One cell: ``-`` for nothing, no control characters."""
    text = "" if value is None else str(value)
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text) or "-"


def moment(epoch: int | None) -> str:
    """A time as people read it, in UTC; empty for none."""
    return "" if epoch is None else f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d %H:%M}Z"


def toml(document: Mapping[str, Any], prefix: str = "") -> str:
    """A document of texts, numbers, truths, lists and tables as TOML; what is not a table comes first."""
    lines = []
    tables = []
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            tables.append(f"[{name}]\n{toml(value, f'{name}.')}")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            tables.extend(f"[[{name}]]\n{toml(item, f'{name}.')}" for item in value)
        else:
            lines.append(f"{key} = {_value(value)}\n")
    return "".join(lines) + "".join(("\n" if lines or position else "") + each for position, each in enumerate(tables))


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    # JSON's texts, numbers and truths are TOML's, but for one character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
