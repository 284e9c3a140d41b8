"""How a command fails: one line for people, exit code 1."""

from __future__ import annotations


class Failed(Exception):
    """The command could not be done; the text names what and the remedy."""
