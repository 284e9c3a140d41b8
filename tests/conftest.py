"""How tests run: fast ones first, each documented, each within its time, no logged failure overlooked."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests import compiled
from tests.features import FeatureResults
from tests.logged_failures import LoggedFailures
from tests.time_limit import TimeLimit

LIVE = Path(__file__).parent / "live"
#: Seconds that one test may take; ``@pytest.mark.time_limit(N)`` says otherwise.
FAST_SECONDS, LIVE_SECONDS = 30.0, 120.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ours to pytest's options."""
    parser.addoption("--features-file", metavar="FILE", help="write which rows of docs/features.rst were tested")
    parser.addoption("--only-compiled", action="store_true", help="refuse to test modules that could be compiled")


def pytest_configure(config: pytest.Config) -> None:
    """Keep results by feature when asked to; refuse to test what was compiled from other sources than these."""
    if path := config.getoption("--features-file"):
        config.pluginmanager.register(FeatureResults(Path(path)), "feature-results")
    if config.getoption("--only-compiled") and (interpreted := compiled.find_interpreted()):
        raise pytest.UsageError("not compiled: " + ", ".join(interpreted))
    folder = compiled.find_folder()
    if folder and not compiled.is_current(folder):
        raise pytest.UsageError(f"{compiled.VARIABLE}: {folder} is not of these sources; make compiled")


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Say what it is that is tested."""
    said = ["modules under test: compiled"] if config.getoption("--only-compiled") else []
    if any(item.get_closest_marker("live") for item in items):
        said.append(f"programs that live tests start: {compiled.describe()}")
    return said


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what lies in ``live``, put it last, and refuse tests that do not say what may be relied on."""
    silent = [item.nodeid for item in items if not _says(item)]
    if silent:
        raise pytest.UsageError("every test needs a one-line docstring: " + ", ".join(silent))
    for item in items:
        if LIVE in item.path.parents:
            item.add_marker("live")
    items.sort(key=lambda item: item.get_closest_marker("live") is not None)


def _says(item: pytest.Item) -> bool:
    return bool((inspect.getdoc(getattr(item, "obj", None)) or "").strip())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Fail a test that takes too long, wherever it hangs: set-up, test or tear-down."""
    limit = LIVE_SECONDS if item.get_closest_marker("live") else FAST_SECONDS
    if marker := item.get_closest_marker("time_limit"):
        limit = float(marker.args[0])
    with TimeLimit(limit):
        return (yield)


@pytest.fixture(autouse=True)
def temporary_names(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let trial's ``mktemp`` name places outside the checkout; under trial itself it works in a folder of its own."""
    if isinstance(request.instance, SynchronousTestCase):
        request.instance.mktemp = lambda: str(tmp_path_factory.mktemp("trial") / "temp")


@pytest.fixture(autouse=True)
def logged_failures(request: pytest.FixtureRequest) -> Iterator[LoggedFailures]:
    """Failures logged during the test, which fail it unless it flushes them: trial's rule, for functions too."""
    kept = LoggedFailures()
    if isinstance(request.instance, SynchronousTestCase):  # trial watches by itself
        yield kept
        return
    with kept:
        yield kept
    if kept.failures:
        text = "\n".join(failure.getTraceback() for failure in kept.failures)
        pytest.fail(f"logged and not flushed:\n{text}", pytrace=False)
