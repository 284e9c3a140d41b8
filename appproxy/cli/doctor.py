"""``appproxy connector doctor``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from appproxy.cli.command import Invocation
from appproxy.cli.failing import Failed
from appproxy.cli.showing import add_output
from appproxy.config import read_apply, read_connector
from appproxy.connector.doctor import FAIL, Doctor, Finding
from appproxy.connector.snapshot import read_assignments


def define(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("--config", metavar="F", required=True, help="the connector's settings")
    parser.add_argument("--user", metavar="U", default="", help="somebody to ask tickets for, as identity names them")
    parser.add_argument("--application", metavar="A", help="only this one")
    parser.add_argument(
        "--applications", metavar="F", type=Path, help="an apply file, instead of what was assigned last"
    )
    add_output(parser)
    parser.set_defaults(run=examine)


def examine(invocation: Invocation) -> int:
    """Examine and print; 1 when something fails."""
    arguments = invocation.arguments
    config = read_connector(arguments.config, invocation.environ)
    if arguments.applications is not None:
        applications = list(read_apply(arguments.applications).applications)
    else:
        applications = read_assignments(config.connector.state_dir)
    if arguments.application is not None:
        applications = [each for each in applications if each.id == arguments.application]
        if not applications:
            raise Failed(f"this connector was not assigned an application {arguments.application}; name --applications")
    findings = []
    for finding in Doctor(config, applications, arguments.user).examine():
        findings.append(finding)
        if arguments.output == "table":
            print(_lines(finding), flush=True)
    if arguments.output == "json":
        print(json.dumps([finding._asdict() for finding in findings], indent=2, ensure_ascii=False))
    return 1 if any(finding.outcome == FAIL for finding in findings) else 0


def _lines(finding: Finding) -> str:
    """A finding as people read it, as soon as it is there: some take their time."""
    line = f"{finding.outcome}  {finding.check:<28}  {finding.found}"
    return f"{line}\n      {'':<28}  {finding.remedy}" if finding.remedy else line
