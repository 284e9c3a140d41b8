"""The last assignments in a file beside the connector's certificate, for commands on its machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from appproxy.applications import Application, from_document
from appproxy.connector.credentials import write_whole

ASSIGNMENTS_FILE: Final = "assignments.json"


def keep_assignments(documents: Iterable[Any], state_dir: Path) -> None:
    """Remember what was assigned; :raises OSError: it cannot be written."""
    write_whole(state_dir / ASSIGNMENTS_FILE, json.dumps(list(documents)).encode())


def read_assignments(state_dir: Path) -> list[Application]:
    """The applications that were assigned last; none where there is nothing to read."""
    try:
        documents = json.loads((state_dir / ASSIGNMENTS_FILE).read_bytes())
        return [from_document(document, Application) for document in documents]
    except (OSError, ValueError):
        return []
