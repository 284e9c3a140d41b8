"""Files and environment into one document: environment over file over default."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_origin

import msgspec

from appproxy.applications import Value
from appproxy.config.converting import Later, Place, suggest
from appproxy.errors import ConfigError

PREFIX = "APPPROXY_"
#: Variables this alike are a slip of the pen, not another program's.
SLIP = 0.9
_WHERE = re.compile(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)")


class Logging(Value, frozen=True):
    """``[logging]``: what is written about the program's life and about each request."""

    level: Literal["debug", "info", "warn", "error", "critical"] = "info"
    format: Literal["text", "json"] = "text"
    #: Where events go: a file, or ``"-"`` for standard output.
    file: str = "-"
    #: Where request records go: a file, ``"-"`` for standard output, ``""`` for none.
    access_log: str = "-"


def place_logs(logging: Logging, folder: Path, place: Place) -> Logging:
    """The settings with paths that no longer depend on where the program runs."""
    if not logging.file:
        raise place.error("logging.file", 'is empty; write a path, or "-" for standard output')
    file, access = (name if name in ("", "-") else str(folder / name) for name in (logging.file, logging.access_log))
    return msgspec.structs.replace(logging, file=file, access_log=access)


def read_toml(path: Path, shown: str) -> dict[str, Any]:
    """Read one TOML file.

    :param shown: the file as the administrator named it.
    :raises ConfigError: when it cannot be read or is not TOML, with line and column.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigError(shown, "no such file") from None
    except OSError as error:
        raise ConfigError(shown, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(shown, f"is not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise _syntax(shown, str(error)) from None


def _syntax(shown: str, message: str) -> ConfigError:
    match = _WHERE.fullmatch(message)
    if match is None:
        return ConfigError(shown, f"is not TOML: {message}")
    if match[2] is None:
        return ConfigError(shown, f"is not TOML: {match[1]} at the end of the file")
    return ConfigError(f"{shown}: line {match[2]}, column {match[3]}", f"is not TOML: {match[1]}")


def overlay(
    document: dict[str, Any], environ: Mapping[str, str], kind: type[msgspec.Struct], later: Later
) -> dict[str, str]:
    """Put ``APPPROXY_<SECTION>_<KEY>`` variables over *document*; returns dotted key to variable.

    Variables of sections that *kind* does not have are other programs' and left alone, unless they look like a slip.

    :raises ConfigError: for an unknown key of a known section, or a value that cannot be read.
    """
    known = _variables(kind, later)
    sections = {f"{PREFIX}{field.name.upper()}_" for field in msgspec.structs.fields(kind)}
    found = {}
    for variable, text in sorted(environ.items()):
        if variable in known:
            section, key, expected = known[variable]
            table = document.setdefault(section, {})
            if isinstance(table, dict):
                table[key] = _value(text, expected, variable)
                found[f"{section}.{key}"] = variable
        elif variable.startswith(f"{PREFIX}PROVIDER_") and f"{PREFIX}PROVIDER_" in sections:
            raise ConfigError(variable, "providers are set in the file only")
        elif variable.startswith(tuple(sections)) or _is_slip(variable, known):
            raise ConfigError(variable, f"unknown setting; {suggest(variable, known)}")
    return found


def _is_slip(variable: str, known: Collection[str]) -> bool:
    return variable.startswith(PREFIX) and bool(get_close_matches(variable, known, cutoff=SLIP))


def _variables(kind: type[msgspec.Struct], later: Later) -> dict[str, tuple[str, str, Any]]:
    """Each variable with its section, key and type."""
    known: dict[str, tuple[str, str, Any]] = {}
    for section in msgspec.structs.fields(kind):
        if isinstance(section.type, type) and issubclass(section.type, msgspec.Struct):
            for field in msgspec.structs.fields(section.type):
                known[f"{PREFIX}{section.name}_{field.name}".upper()] = section.name, field.name, field.type
    for path, harmless in later.items():
        section_name, _, key = path.partition(".")
        variable = f"{PREFIX}{section_name}_{key}".upper()
        if key and "." not in key and variable not in known:
            known[variable] = section_name, key, type(harmless[0]) if harmless else str
    return known


def _value(text: str, expected: Any, variable: str) -> object:
    """A variable's text as TOML would have given it."""
    if get_origin(expected) is tuple and not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if expected in (bool, int, float, dict, list) or get_origin(expected) is tuple:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            raise ConfigError(variable, f"{text!r} cannot be read; write it as in the file") from None
    return text
