"""What is installed: both ``twistd`` commands, nothing of Twisted's overwritten, and every file that is not Python."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "appproxy"
#: Modules that may be longer, each with the reason.
LONG = {
    "net/transport.py": "one transport: the write queue, reads, half-close and TLS share one state",
}
MAX_LINES = 500


def run(*arguments: str, **more: object) -> str:
    """What a Python program prints."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        [sys.executable, *arguments], capture_output=True, text=True, check=True, timeout=60, **more
    ).stdout


class InstalledTest(SynchronousTestCase):
    """This environment."""

    def test_plug_in_is_found(self) -> None:
        """``twistd`` finds both commands, wherever it is started."""
        program = (
            "from twisted.plugin import getPlugins\n"
            "from twisted.application.service import IServiceMaker\n"
            "print(*sorted(each.tapname for each in getPlugins(IServiceMaker)))"
        )
        found = run("-c", program, cwd="/").split()
        self.assertEqual(
            [name for name in found if name.startswith("appproxy")], ["appproxy-connector", "appproxy-relay"]
        )
        self.assertIn("web", found)

    def test_plug_in_imports_nothing_of_ours(self) -> None:
        """Listing commands stays quick: modules are named by text."""
        program = (
            "import sys; from twisted.plugins import appproxy_plugin as it\n"
            "assert it.relay.tapname == 'appproxy-relay'\n"
            "print([name for name in sys.modules if name.partition('.')[0] == 'appproxy'])"
        )
        self.assertEqual(run("-c", program).strip(), "[]")

    def test_commands(self) -> None:
        """``twistd appproxy-relay --help`` and ``appproxy --version`` work."""
        scripts = Path(sysconfig.get_path("scripts"))
        for command in (["twistd", "appproxy-relay", "--help"], ["twistd", "appproxy-connector", "--help"]):
            done = subprocess.run([scripts / command[0], *command[1:]], capture_output=True, text=True, check=True)
            self.assertIn("--config", done.stdout)
        done = subprocess.run([scripts / "appproxy", "--version"], capture_output=True, text=True, check=True)
        self.assertRegex(done.stdout, r"^appproxy [0-9.]+\n$")


class SourceTest(SynchronousTestCase):
    """The checkout."""

    def test_no_init_beside_the_plug_in(self) -> None:
        """An ``__init__.py`` there would replace Twisted's own, and break every ``twistd`` when uninstalled."""
        self.assertEqual(list((ROOT / "twisted").rglob("__init__.py")), [])

    def test_every_room_says_what_it_is(self) -> None:
        """Each package of ours has an ``__init__.py`` with a docstring, and so has each module."""
        silent = []
        for path in PACKAGE.rglob("*.py"):
            if not ast.get_docstring(ast.parse(path.read_text("utf-8"))):
                silent.append(str(path.relative_to(PACKAGE)))
            self.assertTrue((path.parent / "__init__.py").exists(), path)
        self.assertEqual(silent, [])

    def test_no_module_is_too_long(self) -> None:
        """Modules hold one idea; those over 500 lines are listed with their reason."""
        long = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if _lines(path) > MAX_LINES}
        self.assertEqual(long - set(LONG), set())

    def test_lint_settings_are_shared(self) -> None:
        """One file says how long lines are."""
        tools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]
        self.assertEqual(tools["ruff"]["line-length"], 120)


def _lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The package as it is distributed, built from a copy of the tracked files."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    wanted = ["appproxy", "twisted", "*.cfg", "*.toml", "setup.py", "*.rst", "LICENSE"]
    listing = ["git", "ls-files", "-co", "--exclude-standard", *wanted]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    built = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PIP_NO_INDEX": "1"}, check=False
    )
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


@pytest.mark.time_limit(120)
def test_wheel_has_every_file(wheel: zipfile.ZipFile) -> None:
    """Schema, pages, the quick start's files, the typing marker and the plug-in are distributed; tests are not."""
    names = set(wheel.namelist())
    data = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and path.suffix in (".sql", ".html", ".css", ".js", ".svg", ".toml", ".typed")
    }
    assert "appproxy/store/schema/sqlite/0001-first.sql" in data
    assert "appproxy/py.typed" in data
    assert data - names == set()
    assert "twisted/plugins/appproxy_plugin.py" in names
    assert {name for name in names if name.startswith("twisted/")} == {"twisted/plugins/appproxy_plugin.py"}
    assert not [name for name in names if name.startswith("tests")]


def test_wheel_has_every_module(wheel: zipfile.ZipFile) -> None:
    """Every module is distributed, and the command is declared."""
    names = set(wheel.namelist())
    assert {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")} - names == set()
    (entries,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "appproxy = appproxy.cli:main" in wheel.read(entries).decode()
