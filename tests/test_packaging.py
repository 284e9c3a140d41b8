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

from setup import read_sources

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
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files."""
    source = tmp_path_factory.mktemp("source")
    wanted = ["appproxy", "twisted", "*.cfg", "*.toml", "setup.py", "*.rst", "LICENSE"]
    listing = ["git", "ls-files", "-co", "--exclude-standard", *wanted]
    listed = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    return source


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The package as it is distributed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    environ = {**os.environ, "PIP_NO_INDEX": "1", "APPPROXY_COMPILE": "0"}
    built = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
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


def test_wheel_is_for_every_machine(wheel: zipfile.ZipFile) -> None:
    """Unless it is asked for, nothing is compiled."""
    assert wheel.filename is not None
    assert wheel.filename.endswith("-py3-none-any.whl")
    assert not [name for name in wheel.namelist() if name.endswith(".so")]


def test_wheel_has_every_module(wheel: zipfile.ZipFile) -> None:
    """Every module is distributed, and the command is declared."""
    names = set(wheel.namelist())
    assert {str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*.py")} - names == set()
    (entries,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "appproxy = appproxy.cli:main" in wheel.read(entries).decode()


class Compiling:
    """A copy of the sources, and what becomes of attempts to compile it."""

    def __init__(self, source: Path) -> None:
        self.source = source

    def refused(self, *arguments: str, **environ: str) -> str:
        """What an attempt that fails says at its end; it leaves nothing compiled."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.source,
            env={**os.environ, "APPPROXY_COMPILE": "1", **environ},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 1, done.stdout + done.stderr
        assert not list(self.source.rglob("*.so"))
        return done.stderr.splitlines()[-1]


@pytest.fixture
def compiling(source: Path) -> Compiling:
    """Attempts to compile."""
    return Compiling(source)


EDITABLE = "from setuptools.build_meta import build_editable; build_editable('build/editable')"


@pytest.mark.parametrize("arguments", [("setup.py", "build_ext", "--inplace"), ("-c", EDITABLE)])
def test_nothing_is_compiled_among_sources(compiling: Compiling, arguments: tuple[str, ...]) -> None:
    """In place or editable: one line says what to do, and no extension is left to hide a module's later text."""
    (compiling.source / "build" / "editable").mkdir(parents=True, exist_ok=True)
    assert "unset APPPROXY_COMPILE for an editable install" in compiling.refused(*arguments)


def test_a_missing_compiler_is_named(compiling: Compiling) -> None:
    """Without a C compiler the build says so, and what to install; it does not go on interpreted."""
    line = compiling.refused("setup.py", "-q", "build", CC="no-such-compiler")
    assert line.startswith("appproxy cannot be compiled: there is no C compiler, no-such-compiler: apt-get install gcc")


def test_missing_headers_are_named(compiling: Compiling, tmp_path: Path) -> None:
    """The same without Python's headers."""
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho 'fatal error: Python.h: No such file or directory' >&2; exit 1\n")
    compiler.chmod(0o755)
    line = compiling.refused("setup.py", "-q", "build", CC=str(compiler))
    assert f"the headers of python3.{sys.version_info.minor} are missing: apt-get install" in line


def test_compiled_modules_exist() -> None:
    """Every module that is to be compiled is there."""
    assert len(read_sources()) > 20
    assert [each for each in read_sources() if not (ROOT / each).is_file()] == []
