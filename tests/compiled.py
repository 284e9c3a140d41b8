"""The package compiled: ``python -m tests.compiled`` builds it into ``build/compiled`` unless that is current.

With ``--test`` the tests of rooms that have compiled modules run in it afterwards.  Exit code :data:`LACKING`: there is
nothing to compile with.  Live tests and benches start programs from the folder that :data:`VARIABLE` names.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "compiled"
VARIABLE = "APPPROXY_COMPILED"
#: In the folder: what it was built from.
STAMP = ".built-from"
#: Exit code: this machine lacks what it takes; what depends on it goes on interpreted.
LACKING = 77
#: Seconds; several times what it takes.
BUILD_SECONDS, TEST_SECONDS = 900, 1800
#: Python lists Twisted's plug-ins once, so that no program that is started later has to write the list.
LIST_PLUGINS = "from twisted.plugin import IPlugin, getPlugins; list(getPlugins(IPlugin))"


def find_digest() -> str:
    """What a build depends on: everything that is installed, how it is built, Python and the compiler of Python."""
    found = hashlib.sha256(f"{sys.version} {sysconfig.get_platform()} {version('mypy')}".encode())
    for path in sorted(_ingredients()):
        found.update(f"\0{path.relative_to(ROOT)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _ingredients() -> Iterator[Path]:
    yield from (ROOT / name for name in ("setup.py", "setup.cfg", "pyproject.toml"))
    yield from (ROOT / "twisted" / "plugins").glob("*.py")
    for path in (ROOT / "appproxy").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def is_current(folder: Path = FOLDER) -> bool:
    """Whether *folder* is what compiling the sources as they are would give."""
    try:
        return (folder / STAMP).read_text("utf-8") == find_digest()
    except OSError:
        return False


def prepare() -> str:
    """See to it that :data:`FOLDER` is current; returns what this machine lacks for that, if anything.

    :raises SystemExit: the sources do not compile; the compilers' words were printed.
    """
    from setup import find_lack

    if is_current():
        return ""
    if lack := find_lack():
        return lack
    FOLDER.parent.mkdir(exist_ok=True)
    with (FOLDER.parent / "compiling.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current():  # another has just built it
            print(f"compiling into {FOLDER.relative_to(ROOT)}, about a minute", flush=True)
            _build()
    return ""


def _build() -> None:
    """Build into a new folder, so that nothing of an earlier build is left, and put it in place when it is whole."""
    with TemporaryDirectory(prefix="compiled-", dir=FOLDER.parent) as name:
        digest = find_digest()
        built = Path(name, "lib")
        # The C stays in one place: its path is part of what ccache goes by.
        _run(["setup.py", "-q", "build", "--build-base", "build/compiling", "--build-lib", built], APPPROXY_COMPILE="1")
        _run(["-c", LIST_PLUGINS], PYTHONPATH=str(built))
        (built / STAMP).write_text(digest, "utf-8")
        if FOLDER.exists():
            FOLDER.rename(Path(name, "old"))
        built.rename(FOLDER)


def _run(arguments: list[str | Path], **environ: str) -> None:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=BUILD_SECONDS,
    )
    if done.returncode:
        raise SystemExit(f"{done.stdout}it does not compile")


def choose(interpreted: bool = False) -> str:
    """Have programs that are started from now on be what is deployed, the compiled ones; returns what they are.

    :param interpreted: have them interpreted all the same.
    """
    lack = "" if interpreted else prepare()
    if lack:
        print(f"not compiled: {lack}")
    if interpreted or lack:
        os.environ.pop(VARIABLE, None)
    else:
        os.environ[VARIABLE] = str(FOLDER)
    return describe()


def find_folder() -> Path | None:
    """Where programs are started from, when not from the sources; relative to the checkout."""
    name = os.environ.get(VARIABLE)
    return ROOT / name if name else None


def describe() -> str:
    """What programs are that are started."""
    folder = find_folder()
    return f"compiled ({os.path.relpath(folder, ROOT)})" if folder else "interpreted"


def find_interpreted(folder: Path = FOLDER) -> list[str]:
    """The modules that are to be compiled and that this Python would not import compiled, and from *folder*."""
    from setup import read_sources

    found = []
    for source in read_sources():
        name = source.removesuffix(".py").replace("/", ".")
        spec = find_spec(name)
        wanted = folder / (source.removesuffix(".py") + str(sysconfig.get_config_var("EXT_SUFFIX")))
        if spec is None or spec.origin is None or Path(spec.origin).resolve() != wanted.resolve():
            found.append(name)
    return found


def run_tests() -> int:
    """Run the tests of rooms with compiled modules, in one process with these; returns pytest's exit code."""
    from setup import read_sources

    rooms = {Path(source).parts[1] for source in read_sources()}
    places = [f"tests/test_{room}" if room.endswith(".py") else f"tests/{room}" for room in rooms]
    command = [Path(sys.executable).parent / "pytest", "--import-mode=importlib", "--only-compiled"]
    environ = {**os.environ, VARIABLE: str(FOLDER), "PYTHONPATH": f"{FOLDER}{os.pathsep}{ROOT}"}
    return subprocess.run(
        [*command, *sorted(places), "tests/joined"], cwd=ROOT, env=environ, check=False, timeout=TEST_SECONDS
    ).returncode


def main() -> int:
    """Build, and test when asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test", action="store_true", help="then run tests in it")
    arguments = parser.parse_args()
    if lack := prepare():
        print(f"not compiled: {lack}")
        return LACKING
    return run_tests() if arguments.test else 0


if __name__ == "__main__":
    sys.exit(main())
