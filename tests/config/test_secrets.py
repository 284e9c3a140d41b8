"""Secrets from files."""

from __future__ import annotations

import os

import pytest

from appproxy.config import check_private, read_secret
from tests.config.files import Written


@pytest.mark.feature("OPS-1")
class TestSecrets(Written):
    """Reading a secret."""

    def said(self, name: str) -> str:
        """What is said about the file *name*."""
        return self.problem(lambda: read_secret(self.folder / name, "relay.toml: key"))

    def test_surrounding_space_is_not_part_of_it(self) -> None:
        """The line end that editors add is no part of the secret."""
        self.assertEqual(read_secret(self.write("s", "  a b \n"), "key"), "a b")

    def test_missing(self) -> None:
        """A missing file is named with the remedy."""
        self.assertEqual(self.said("s"), "relay.toml: key: there is no file s; create it or correct the path")

    def test_empty(self) -> None:
        """An empty file is no secret."""
        self.write("s", "\n")
        self.assertEqual(self.said("s"), "relay.toml: key: s is empty; write the secret into it")

    def test_folder(self) -> None:
        """A folder is no secret."""
        (self.folder / "s").mkdir(mode=0o700)
        self.assertEqual(self.said("s"), "relay.toml: key: s cannot be read: is a directory")

    def test_not_text(self) -> None:
        """A binary file is a slip in the path."""
        self.write("s", "").write_bytes(b"\xff\xfe")
        self.assertEqual(self.said("s"), "relay.toml: key: s is not text; write the secret as one line of text")

    def test_too_long(self) -> None:
        """So is a huge one."""
        self.write("s", "x" * 100_000)
        said = "relay.toml: key: s is too long for a secret; name the file that holds only the secret"
        self.assertEqual(self.said("s"), said)

    def test_open_to_others(self) -> None:
        """R13: a file that group or others may read is refused with the command that mends it."""
        for mode in (0o644, 0o640, 0o604, 0o666):
            path = self.write("s", "secret", mode)
            said = f"relay.toml: key: s can be read by others (mode {mode:04o}); run: chmod 600 s"
            self.assertEqual(self.said("s"), said)
            self.assertIn("chmod 600", self.problem(lambda path=path: check_private(path, "key")))  # type: ignore[misc]
        check_private(self.write("s", "secret", 0o400), "key")

    def test_handed_over_by_a_supervisor(self) -> None:
        """A file of another owner may be shared with our group, but not with everybody."""
        path = self.write("s", "secret", 0o440)
        fields = [int(field) for field in path.stat()]
        fields[4] = os.geteuid() + 1
        check_private(path, "key", os.stat_result(fields))
        fields[0] |= 0o004
        self.assertIn("mode 0444", self.problem(lambda: check_private(path, "key", os.stat_result(fields))))

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_not_ours_to_read(self) -> None:
        """A file of somebody else is named with the remedy."""
        self.write("s", "secret", 0o000)
        self.assertEqual(
            self.said("s"), "relay.toml: key: s may not be read; give it to the user that runs this program"
        )
