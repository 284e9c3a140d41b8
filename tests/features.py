"""Which rows of ``docs/features.rst`` were shown to hold: ``make features``.

A test names rows with ``@pytest.mark.feature("AUTH-2")``.  A run with ``--features-file`` writes what became of them;
``python -m tests.features`` prints one line a row: id, ``passed``, ``failed`` or ``untested``, number of tests.
"""

from __future__ import annotations

import json
import re
import sys
from collections import defaultdict
from pathlib import Path

import pytest

TABLE = Path(__file__).parents[1] / "docs" / "features.rst"
RESULTS = Path(".test-results/features.json")
_ROW = re.compile(r"^([A-Z]{3,4}-[0-9]+)$", re.MULTILINE)

#: Results of tests: row to node id of the test to whether it passed.
Results = dict[str, dict[str, bool]]


class FeatureResults:
    """A pytest plug-in that keeps what became of each row's tests."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: dict[str, set[str]] = {}
        self._outcomes: dict[str, bool] = {}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Learn which test is about which rows; a row that the table does not have is a mistake."""
        known = set(read_rows())
        for item in session.items:
            rows = {row for marker in item.iter_markers("feature") for row in marker.args}
            if unknown := rows - known:
                raise pytest.UsageError(f"{item.nodeid}: docs/features.rst has no row {', '.join(sorted(unknown))}")
            if rows:
                self._rows[item.nodeid] = rows

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """One phase of a test ended; a skipped test shows nothing."""
        if report.failed:
            self._outcomes[report.nodeid] = False
        elif report.when == "call" and report.passed:
            self._outcomes.setdefault(report.nodeid, True)

    def pytest_sessionfinish(self) -> None:
        """Write it all."""
        results: Results = defaultdict(dict)
        for test, passed in self._outcomes.items():
            for row in self._rows.get(test, ()):
                results[row][test] = passed
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", "utf-8")


def read_rows(table: Path = TABLE) -> list[str]:
    """The ids of all rows, in order."""
    return _ROW.findall(table.read_text("utf-8"))


def summarise(rows: list[str], results: Results) -> list[str]:
    """One line a row: id, what became of it, number of tests."""
    lines = []
    for row in rows:
        tests = results.get(row, {})
        outcome = "untested" if not tests else "passed" if all(tests.values()) else "failed"
        lines.append(f"{row}\t{outcome}\t{len(tests)}")
    return lines


def main() -> int:
    """Print the lines for the last ``make test``."""
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    print("\n".join(summarise(read_rows(), results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
