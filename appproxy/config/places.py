"""Names and folders that both programs choose alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

#: Node names, connector names and ids: safe in file names, URLs and logs.
NODE_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
#: A state folder that nobody chose.
UNSET = Path()


def state_folder(environ: Mapping[str, str], name: str) -> Path:
    """Where a program keeps its state when nobody says: the supervisor's folder, else the user's."""
    if supervised := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(supervised)
    if chosen := environ.get("XDG_STATE_HOME", ""):
        return Path(chosen) / name
    return Path(environ.get("HOME", "/")) / ".local" / "state" / name
