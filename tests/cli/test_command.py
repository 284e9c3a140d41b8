from __future__ import annotations

import subprocess
import sys

import pytest
from twisted.trial.unittest import SynchronousTestCase

import appproxy
from appproxy.cli import command as module
from appproxy.cli.command import GROUPS
from appproxy.cli.failing import Failed
from appproxy.errors import AppproxyError, ConfigError
from tests.cli.running import command


@pytest.mark.feature("ADM-3")
class CommandTests(SynchronousTestCase):
    def test_help_names_every_verb(self) -> None:
        """``appproxy --help`` lists the verbs; each has help of its own, and ends with 0."""
        ended = command("--help")
        self.assertEqual(ended.code, 0)
        for verb in GROUPS:
            self.assertIn(verb, ended.out)
            self.assertEqual(command(verb, "--help").code, 0)

    def test_version(self) -> None:
        """``--version`` says which release this is."""
        self.assertEqual(command("--version").out, f"appproxy {appproxy.__version__}\n")

    def test_what_is_not_understood_ends_with_2(self) -> None:
        """Nothing, unknown verbs and missing arguments: usage on standard error, nothing else."""
        for argv in (
            (),
            ("nonsense",),
            ("app",),
            ("app", "nonsense"),
            ("apply",),
            ("token", "enrol"),
            ("session", "end"),
        ):
            ended = command(*argv)
            self.assertEqual((ended.code, ended.out), (2, ""), argv)
            self.assertIn("usage: appproxy", ended.err)

    def test_what_can_go_wrong_is_one_line(self) -> None:
        """Expected failures end with 1 and one line, never a traceback; mistakes of ours keep theirs."""
        for failure in (Failed("no"), ConfigError("relay.toml", "no"), AppproxyError("no")):
            self.patch(module, "make_parser", _failing(failure))
            ended = command("status")
            self.assertEqual((ended.code, ended.err), (1, f"appproxy: {failure}\n"))
        self.patch(module, "make_parser", _failing(ZeroDivisionError()))
        with self.assertRaises(ZeroDivisionError):
            command("status")

    def test_stops_quietly(self) -> None:
        """Ctrl-C ends with 130 and says nothing."""
        self.patch(module, "make_parser", _failing(KeyboardInterrupt()))
        self.assertEqual(command("status"), (130, "", ""))

    def test_a_reader_that_has_seen_enough(self) -> None:
        """``appproxy … | head -1`` ends without a word on standard error."""
        program = (
            "import appproxy.cli, sys; sys.argv[1:] = ['check-config'] + ['/dev/null'] * 50000; appproxy.cli.main()"
        )
        ended = subprocess.run(
            ["bash", "-c", f'"{sys.executable}" -c "{program}" | head -1'], capture_output=True, check=False
        )
        self.assertEqual((ended.stdout, ended.stderr), (b"/dev/null: fine\n", b""))

    def test_imports_only_what_is_typed(self) -> None:
        """``appproxy --help`` is there at once: neither Twisted nor cryptography nor the other verbs are loaded."""
        program = (
            "import sys, appproxy.cli.command as c; c.make_parser(['--help']);"
            "print([m for m in sys.modules if m.startswith(('twisted', 'cryptography', 'appproxy.cli.'))])"
        )
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True)
        self.assertEqual(ended.stdout.strip(), "['appproxy.cli.failing', 'appproxy.cli.command']")


def _failing(failure: BaseException) -> object:
    def run(_invocation: object) -> None:
        raise failure

    class Parser:
        def parse_args(self, argv: object) -> object:
            return type("Arguments", (), {"run": staticmethod(run)})

    return lambda argv: Parser()
