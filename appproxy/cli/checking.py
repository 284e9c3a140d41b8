"""``appproxy check-config``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from appproxy.cli.command import Invocation
from appproxy.cli.relay import SOCKET_VARIABLE
from appproxy.cli.showing import add_output
from appproxy.config import read_apply, read_connector, read_relay
from appproxy.config.reading import read_toml
from appproxy.errors import ConfigError

#: Tables that only one kind of file has.
_OF_APPLY = {"application", "connector_group"}
_OF_CONNECTOR = {"connector", "egress", "kerberos", "origin"}


def define(verb: str, parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("file", nargs="+", metavar="FILE")
    add_output(parser)
    parser.set_defaults(run=check_config)


def check_config(invocation: Invocation) -> int:
    """Say of each file that it is fine, or the first thing that is wrong with it."""
    environ = {name: value for name, value in invocation.environ.items() if name != SOCKET_VARIABLE}
    found = []
    for file in invocation.arguments.file:
        problem = None
        try:
            check(file, environ)
        except ConfigError as error:
            problem = str(error)
        found.append({"file": file, "problem": problem})
        if invocation.arguments.output == "table":
            print(problem or f"{file}: fine", file=sys.stderr if problem else sys.stdout)
    if invocation.arguments.output == "json":
        print(json.dumps(found, indent=2, ensure_ascii=False))
    return 1 if any(each["problem"] for each in found) else 0


def check(file: str, environ: Mapping[str, str]) -> None:
    """Read *file* as the program that it is for would.

    :raises ConfigError: it would refuse it.
    """
    tables = set(read_toml(Path(file), file))
    if tables & _OF_APPLY:
        read_apply(file)
    elif tables & _OF_CONNECTOR:
        connector = read_connector(file, environ)
        token_file = connector.connector.enrolment_token_file
        if token_file is not None and token_file.exists():
            connector.connector.read_enrolment_token()
    else:
        relay = read_relay(file, environ)
        if relay.tls.certificates is not None:
            from appproxy.net.certificates import Certificates

            Certificates(relay.tls.certificates, None)
