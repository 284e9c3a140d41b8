"""The compiled package: whole, and really what live tests start when they say so."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from setup import read_sources
from tests import compiled
from tests.live.stack import OPEN, Stack

SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
#: Where the machine code of all modules is.
LIBRARY = f"appproxy__mypyc{SUFFIX}"


@pytest.fixture
def folder() -> Path:
    """What was compiled."""
    found = compiled.find_folder()
    if found is None:
        pytest.skip("nothing was compiled: make compiled; APPPROXY_COMPILED=build/compiled")
    return found


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Relay, connector and origin, started as every live test does."""
    with Stack(tmp_path) as running:
        running.start(OPEN)
        yield running


def test_every_module_is_compiled_and_nothing_else(folder: Path) -> None:
    """Each has its text beside it, for tracebacks; nothing is left of what was once compiled."""
    wanted = {source.removesuffix(".py") + SUFFIX for source in read_sources()} | {LIBRARY}
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.so")} == wanted
    assert [each for each in read_sources() if not (folder / each).is_file()] == []


def test_every_file_is_installed(folder: Path) -> None:
    """What is not compiled is there as it is in the sources."""
    sources = {
        path.relative_to(compiled.ROOT): path.read_bytes()
        for path in (compiled.ROOT / "appproxy").rglob("*")
        if path.suffix in (".py", ".sql", ".html", ".css", ".js", ".svg", ".toml", ".conf", ".typed")
    }
    assert [path for path, text in sources.items() if (folder / path).read_bytes() != text] == []


def test_relay_and_connector_run_compiled(folder: Path, stack: Stack) -> None:
    """Both have loaded the machine code from there, and a request passes through it."""
    assert stack.relay is not None
    assert stack.connector is not None
    for program in (stack.relay, stack.connector):
        maps = Path(f"/proc/{program.pid}/maps").read_text()
        assert str(folder / LIBRARY) in maps, program.name
    assert stack.browser().ask(stack.address("open", "/small")).status == 200


def test_the_command_runs_compiled(folder: Path, stack: Stack) -> None:
    """The command does its work from there, and leaves nothing behind in the folder but what Python keeps."""
    before = {path for path in folder.rglob("*") if "__pycache__" not in path.parts}
    assert "open" in stack.command("app", "list")
    assert {path for path in folder.rglob("*") if "__pycache__" not in path.parts} == before
