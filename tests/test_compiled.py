"""What was compiled is used as long as the sources are what it was compiled from, and never silently."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import compiled
from tests.live.programs import own_environment


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small checkout, with a folder that was built from it."""
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "appproxy/tasks.py", "appproxy/relay/pages/portal.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("first")
    monkeypatch.setattr(compiled, "ROOT", tmp_path)
    (tmp_path / "built").mkdir()
    (tmp_path / "built" / compiled.STAMP).write_text(compiled.find_digest())
    return tmp_path


def test_current_as_long_as_nothing_changes(checkout: Path) -> None:
    """What Python keeps beside the sources is no change of them."""
    (checkout / "appproxy" / "__pycache__").mkdir()
    (checkout / "appproxy" / "__pycache__" / "tasks.cpython-311.pyc").write_text("x")
    os.utime(checkout / "appproxy" / "tasks.py", (1, 1))
    assert compiled.is_current(checkout / "built")


@pytest.mark.parametrize("name", ["setup.py", "setup.cfg", "appproxy/tasks.py", "appproxy/relay/pages/portal.html"])
def test_stale_when_something_changes(checkout: Path, name: str) -> None:
    """Sources, files that are installed with them, and how they are built."""
    (checkout / name).write_text("second")
    assert not compiled.is_current(checkout / "built")


def test_stale_when_a_module_comes_goes_or_moves(checkout: Path) -> None:
    """A name is as much as a text."""
    module = checkout / "appproxy" / "tasks.py"
    other = module.with_name("chores.py")
    shutil.copy(module, other)
    assert not compiled.is_current(checkout / "built")
    module.unlink()
    assert not compiled.is_current(checkout / "built")
    other.rename(module)
    assert compiled.is_current(checkout / "built")


def test_what_is_not_there_is_not_current(checkout: Path) -> None:
    """Neither is what was not finished."""
    assert not compiled.is_current(checkout / "nowhere")
    (checkout / "built" / compiled.STAMP).unlink()
    assert not compiled.is_current(checkout / "built")


def test_programs_come_from_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Programs of ours import it first, and do not take its variable for a setting of theirs."""
    monkeypatch.setenv(compiled.VARIABLE, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    environ = own_environment()
    assert environ["PYTHONPATH"] == f"{tmp_path}{os.pathsep}/elsewhere"
    assert compiled.VARIABLE not in environ
    assert compiled.describe().startswith("compiled (")


def test_interpreted_without_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are what the sources are, and said to be."""
    monkeypatch.setenv(compiled.VARIABLE, "build/compiled")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    assert compiled.choose(interpreted=True) == "interpreted"
    assert "PYTHONPATH" not in own_environment()


def test_interpreted_modules_are_noticed(tmp_path: Path) -> None:
    """Modules that are imported from elsewhere do not count as compiled."""
    assert "appproxy.tasks" in compiled.find_interpreted(tmp_path)


def test_pytest_refuses_a_stale_folder(tmp_path: Path) -> None:
    """A run that would start programs of other sources ends before the first test."""
    (tmp_path / compiled.STAMP).write_text("of other sources")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "tests/test_compiled.py"],
        cwd=compiled.ROOT,
        env={**os.environ, compiled.VARIABLE: str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"{tmp_path} is not of these sources; make compiled" in done.stderr
