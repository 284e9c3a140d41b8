from __future__ import annotations

import pytest

from tests.cli.running import APPS, CommandTestCase


@pytest.mark.feature("POL-3", "ADM-3")
class ExplainTests(CommandTestCase):
    """``appproxy explain``."""

    def setUp(self) -> None:
        super().setUp()
        self.done("apply", self.file("apps.toml", APPS))

    def test_verdicts(self) -> None:
        """Allowed with what the origin receives; refused with the reason; strangers have to sign in."""
        said = self.done("explain", "https://hr.example.com/x?y", "--user", "alice@example.com")
        self.assertIn("allowed: user-assigned", said)
        self.assertIn("GET /x?y", said)
        self.assertIn("none is here", said)
        self.assertIn("refused: not-assigned", self.done("explain", "https://hr.example.com/", "--user", "mallory"))
        said = self.done("explain", "https://hr.example.com/", "--user", "bob", "--group", "hr-staff")
        self.assertIn("allowed: group-assigned, hr-staff", said)
        self.assertIn("asked to sign in", self.done("explain", "https://hr.example.com/"))
        self.assertIn("no such host", self.done("explain", "https://moon.example.com/"))

    def test_bad_questions(self) -> None:
        """One line each, with what to write."""
        self.assertIn("write https://host/path", self.refused("explain", "ftp://hr.example.com/"))
        self.assertIn("NAME=VALUE", self.refused("explain", "https://hr.example.com/", "--claim", "x"))
