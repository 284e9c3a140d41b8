"""The command line, and how a command ends."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import NamedTuple

import appproxy
from appproxy.cli.failing import Failed
from appproxy.errors import AppproxyError, ConfigError

#: Verbs that come first, the module that knows them, and what they are for.
GROUPS = {
    "check-config": ("checking", "check relay.toml, connector.toml or an apply file"),
    "apply": ("publishing", "add and change applications and connector groups"),
    "export": ("publishing", "write all applications and connector groups as an apply file"),
    "app": ("publishing", "published applications"),
    "group": ("publishing", "connector groups"),
    "connector": ("connectors", "connectors"),
    "authority": ("authorities", "the relay's own certification authorities"),
    "token": ("connectors", "enrolment tokens"),
    "explain": ("explaining", "what would become of a request, and why"),
    "session": ("sessions", "signed-in users"),
    "status": ("sessions", "the relay's state in short"),
    "idp": ("provider", "the development identity provider"),
}


class Invocation(NamedTuple):
    """What every command is given: its arguments and the environment."""

    arguments: argparse.Namespace
    environ: Mapping[str, str]


def run(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Do what *argv* says; returns the exit code.

    :raises SystemExit: with 2 when it is not understood, 0 after ``--help``.
    """
    arguments = make_parser(argv).parse_args(argv)
    try:
        code: int | None = arguments.run(Invocation(arguments, environ))
        sys.stdout.flush()
        return code or 0
    except (Failed, ConfigError, AppproxyError) as failure:
        print(f"appproxy: {failure}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def make_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """A parser that knows every first verb, and all about those that *argv* mentions."""
    parser = argparse.ArgumentParser(prog="appproxy", description="Administer appproxy relays and connectors.")
    parser.add_argument("--version", action="version", version=f"appproxy {appproxy.__version__}")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    for verb, (module, purpose) in GROUPS.items():
        own = verbs.add_parser(verb, help=purpose, description=f"{purpose[:1].upper()}{purpose[1:]}.")
        if verb in argv:
            import_module(f"appproxy.cli.{module}").define(verb, own)
    return parser
