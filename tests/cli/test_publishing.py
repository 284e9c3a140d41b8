from __future__ import annotations

import json
from pathlib import Path

import pytest

from appproxy.config import read_apply
from appproxy.store import applications
from tests.cli.running import APPS, CommandTestCase


@pytest.mark.feature("ADM-3")
class ApplyTests(CommandTestCase):
    def test_prints_the_difference(self) -> None:
        """``+`` added, ``~`` changed with the fields, ``=`` unchanged, and a count."""
        file = self.file("apps.toml", APPS)
        self.assertEqual(self.done("apply", file), "+ group hq\n+ application hr\n2 added, 0 changed, 0 unchanged\n")
        Path(file).write_text(APPS.replace('"20s"', '"30s"').replace("HR portal", "Personal"))
        self.assertEqual(
            self.done("apply", file),
            "~ application hr\n"
            '    name: "HR portal" -> "Personal"\n'
            '    timeouts.connect: "20s" -> "30s"\n'
            "= group hq\n"
            "0 added, 1 changed, 1 unchanged\n",
        )

    def test_a_dry_run_does_nothing(self) -> None:
        """The same difference, and the relay publishes what it did before."""
        out = self.done("apply", self.file("apps.toml", APPS), "--dry-run")
        self.assertIn("+ application hr\ndry run, nothing was done: 2 added", out)
        self.assertEqual(self.write(applications.list_), [])

    def test_mistakes_are_found_before_anything_is_sent(self) -> None:
        """A misspelt key is one line with file and key."""
        line = self.refused("apply", self.file("apps.toml", APPS.replace("timeouts]", "timeout]")))
        self.assertIn("apps.toml: application[hr].timeout: unknown key", line)

    def test_what_the_relay_refuses_names_the_file(self) -> None:
        """A group or provider that this relay does not have: file, key, remedy."""
        line = self.refused("apply", self.file("a.toml", APPS.replace('name = "hq"', 'name = "dr"', 1)))
        self.assertIn('a.toml: application[hr].connector_group: there is no connector group "hq"', line)
        line = self.refused("apply", self.file("a.toml", APPS.replace("assigned", 'provider = "google"\nassigned')))
        self.assertIn("a.toml: application[hr].provider", line)

    def test_a_missing_file_is_one_line(self) -> None:
        """No traceback for a slip in the file name."""
        self.assertIn("/nowhere/apps.toml: no such file", self.refused("apply", "/nowhere/apps.toml"))

    def test_what_is_exported_can_be_applied(self) -> None:
        """``export`` writes a file that changes nothing when it is applied, and means the same."""
        file = self.file("apps.toml", APPS)
        self.done("apply", file)
        exported = self.file("exported.toml", self.done("export"))
        self.assertEqual(read_apply(exported), read_apply(file))
        self.assertIn("0 added, 0 changed, 2 unchanged", self.done("apply", exported))

    def test_an_empty_relay_exports_an_empty_file(self) -> None:
        """What an empty relay exports is an apply file, too."""
        read_apply(self.file("exported.toml", self.done("export")))


@pytest.mark.feature("ADM-3")
class ApplicationTests(CommandTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.done("apply", self.file("apps.toml", APPS))

    def test_list(self) -> None:
        """A table with what people look for first."""
        self.assertEqual(
            self.done("app", "list"),
            "ID  NAME       EXTERNAL URL             INTERNAL URL                GROUP  SIGN-IN  STATE    CONNECTORS\n"
            "hr  HR portal  https://hr.example.com/  http://hr.corp.local:8080/  hq     oidc     enabled  0 online\n",
        )

    def test_show(self) -> None:
        """One application, as an apply file has it."""
        shown = self.file("shown.toml", self.done("app", "show", "hr"))
        self.assertEqual(read_apply(shown).applications, read_apply(str(self.folder / "apps.toml")).applications)

    def test_disable_and_enable(self) -> None:
        """Off and on again, and the list says which."""
        self.assertIn("404", self.done("app", "disable", "hr"))
        self.assertIn("disabled", self.done("app", "list"))
        self.done("app", "enable", "hr")
        self.assertNotIn("disabled", self.done("app", "list"))

    @pytest.mark.feature("PUB-7")
    def test_maintenance(self) -> None:
        """On and off, and the list says so; what is disabled is called that."""
        self.assertIn("503", self.done("app", "maintenance", "hr"))
        self.assertIn("maintenance", self.done("app", "list"))
        self.done("app", "disable", "hr")
        self.assertIn("disabled", self.done("app", "list"))
        self.done("app", "enable", "hr")
        self.assertIn("served again", self.done("app", "maintenance", "hr", "--off"))
        self.assertIn("enabled", self.done("app", "list"))

    @pytest.mark.feature("PUB-5")
    def test_several_addresses(self) -> None:
        """The list counts them; what is shown and exported is what was applied; none at all is one of the cases."""
        segments = """
[[application.segment]]
external_url = "https://files.example.com/"
internal_url = "http://files.corp.local/"
[application.segment.cors]
allowed_origins = ["https://www.example.com"]
max_age = "1h"
[[application]]
id = "none"
connector_group = "hq"
segment = []
"""
        file = self.file("more.toml", APPS + segments)
        self.done("apply", file)
        listed = self.done("app", "list")
        self.assertIn("  https://hr.example.com/ and 1 more  http://hr.corp.local:8080/ and 1 more  ", listed)
        self.assertRegex(listed, r"\nnone +- +- +- +hq ")
        for exported in (self.done("export"), self.done("app", "show", "hr"), self.done("app", "show", "none")):
            shown = {each.id: each for each in read_apply(self.file("shown.toml", exported)).applications}
            wanted = {each.id: each for each in read_apply(file).applications}
            self.assertEqual(shown, {name: wanted[name] for name in shown})

    def test_delete(self) -> None:
        """Gone; a second time it is not there."""
        self.done("app", "delete", "hr")
        self.assertIn("appproxy app list", self.refused("app", "delete", "hr"))
        self.assertIn("appproxy apply", self.done("app", "list"))

    def test_unknown_ones(self) -> None:
        """Every verb names the application that does not exist; odd characters stay part of the name."""
        for verb in ("show", "enable", "disable", "maintenance", "delete"):
            for name in ("nothing", "a/b", "a?b", "ü", ".."):
                self.refused("app", verb, name)

    def test_for_programs(self) -> None:
        """``--output json`` is what the relay answered."""
        document = json.loads(self.done("app", "list", "--output", "json"))
        self.assertEqual(document["applications"][0]["settings"]["id"], "hr")

    def test_groups(self) -> None:
        """Connector groups with their users; one that is used stays."""
        self.assertEqual(
            self.done("group", "list"), "NAME  APPLICATIONS  CONNECTORS\nhq    1             0, 0 online\n"
        )
        self.assertIn("hr", self.refused("group", "delete", "hq"))
        self.done("app", "delete", "hr")
        self.done("group", "delete", "hq")
        self.assertIn("no connector groups", self.done("group", "list"))
