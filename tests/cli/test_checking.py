from __future__ import annotations

import json

import pytest

from tests.cli.running import APPS, CommandTestCase, command
from tests.fakes.certificates import Authority

PROVIDER = """
[[provider]]
id = "entra"
issuer = "https://login.example.com"
client_id = "x"
"""


@pytest.mark.feature("ADM-3", "OPS-1")
class CheckConfigTests(CommandTestCase):
    def problem(self, name: str, text: str) -> str:
        """Check a file that is wrong; the line without the file's folder."""
        ended = command("check-config", self.file(name, text))
        self.assertEqual((ended.code, ended.out, ended.err.count("\n")), (1, "", 1), ended)
        return ended.err.replace(f"{self.folder}/", "").rstrip("\n")

    def test_each_kind_is_recognised(self) -> None:
        """relay.toml, connector.toml and apply files are told apart by their tables, whatever their names."""
        files = [
            self.file("a", '[relay]\npublic_url = "https://proxy.example.com"\n' + PROVIDER),
            self.file("b", '[connector]\nrelays = ["https://connect.example.com:8443"]\n'),
            self.file("c", APPS),
            self.file("d", ""),
        ]
        ended = command("check-config", *files)
        self.assertEqual(ended, (0, "".join(f"{file}: fine\n" for file in files), ""))

    def test_unknown_keys_are_named(self) -> None:
        """One line with the file, the key and the nearest known one."""
        self.assertEqual(
            self.problem("relay.toml", '[listen]\nclient = ["tls:443"]\n'),
            'relay.toml: listen.client: unknown key; did you mean "clients"?',
        )
        self.assertIn('did you mean "relay"', self.problem("r.toml", "[realy]\n"))
        self.assertIn("application[hr].nme", self.problem("a.toml", APPS.replace('name = "HR', 'nme = "HR')))
        self.assertIn("connector.relay:", self.problem("c.toml", '[connector]\nrelay = "x"\n'))

    def test_what_is_no_toml_is_placed(self) -> None:
        """Line and column of the slip."""
        self.assertIn("line 2, column", self.problem("relay.toml", "[relay]\nnode = relay-1\n"))

    def test_missing_files_are_named(self) -> None:
        """A file that is not there is one line."""
        ended = command("check-config", "/nowhere/relay.toml")
        self.assertEqual((ended.code, ended.err), (1, "/nowhere/relay.toml: no such file\n"))

    def test_secrets_that_others_can_read(self) -> None:
        """R13: a secret's file with open permissions is refused with the command that mends it."""
        secret = self.folder / "secret"
        secret.write_text("x")
        secret.chmod(0o644)
        line = self.problem("relay.toml", PROVIDER + 'client_secret_file = "secret"\n')
        self.assertIn("provider[0].client_secret_file", line)
        self.assertIn("chmod 600", line)

    def test_unusable_certificates(self) -> None:
        """R13: key files that are damaged, or open to everybody, are named before the relay is started."""
        certificates = self.folder / "certs"
        certificates.mkdir()
        settings = '[tls]\ncertificates = "certs"\n'
        self.assertIn("certs", self.problem("relay.toml", settings))
        pem = Authority().write(certificates / "hr.pem", "hr.example.com")
        self.assertEqual(command("check-config", self.file("relay.toml", settings)).code, 0)
        pem.chmod(0o644)
        self.assertIn("hr.pem", self.problem("relay.toml", settings))
        pem.chmod(0o600)
        pem.write_text("junk")
        self.assertIn("hr.pem", self.problem("relay.toml", settings))

    def test_a_bad_token_file(self) -> None:
        """A connector's token file that is empty is found before the connector is started; a spent one may be gone."""
        settings = '[connector]\nrelays = ["https://connect.example.com"]\nenrolment_token_file = "token"\n'
        self.assertEqual(command("check-config", self.file("connector.toml", settings)).code, 0)
        self.file("token", "")
        self.assertIn("enrolment_token_file", self.problem("connector.toml", settings))

    def test_the_rest_is_checked_too(self) -> None:
        """Of several files each gets its line; one bad one makes the exit code 1."""
        bad, good = self.file("bad", "[nonsense]"), self.file("good", APPS)
        ended = command("check-config", bad, good)
        self.assertEqual((ended.code, ended.out, ended.err.count("\n")), (1, f"{good}: fine\n", 1))

    def test_for_programs(self) -> None:
        """``--output json`` has each file with its problem or null."""
        bad, good = self.file("bad", "[nonsense]"), self.file("good", APPS)
        ended = command("check-config", "--output", "json", bad, good)
        first, second = json.loads(ended.out)
        self.assertEqual((ended.code, ended.err, second), (1, "", {"file": good, "problem": None}))
        self.assertIn("nonsense", first["problem"])

    def test_the_commands_own_variable_is_no_setting(self) -> None:
        """Naming the socket in the environment does not make relay.toml wrong."""
        environ = {"APPPROXY_ADMIN_SOCKET": "/run/x", "APPPROXY_RELAY_NODE": "n"}
        self.assertEqual(command("check-config", self.file("r", "[relay]"), environ=environ).code, 0)
        environ["APPPROXY_RELAY_NOD"] = "n"
        self.assertIn("APPPROXY_RELAY_NOD", command("check-config", self.file("r", ""), environ=environ).err)
