"""``twistd appproxy-relay``: the command line and what it makes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from twisted.application.service import IService
from twisted.python import usage
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.service import RelayService
from appproxy.relay.tap import Options, makeService


@pytest.mark.feature("OPS-1")
class TapTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir(parents=True)
        for name in [name for name in os.environ if name.startswith("APPPROXY_")]:
            self.patch(os, "environ", {k: v for k, v in os.environ.items() if k != name})

    def options(self, *arguments: str) -> Options:
        """What was typed."""
        options = Options()
        options.parseOptions(list(arguments))
        return options

    def test_options(self) -> None:
        """There is one option, with a short form; nothing else may be typed."""
        self.assertIsNone(self.options()["config"])
        self.assertEqual(self.options("-c", "a.toml")["config"], "a.toml")
        self.assertEqual(self.options("--config", "b.toml")["config"], "b.toml")
        self.assertRaises(usage.UsageError, self.options, "--verbose")

    def test_a_service(self) -> None:
        """Settings that are right make a relay which has not started and has opened nothing."""
        config = self.folder / "relay.toml"
        config.write_text(f'[relay]\nstate_dir = "{self.folder / "state"}"\nnode = "n-1"\n')
        service = makeService(self.options("--config", str(config)))
        self.assertTrue(IService.providedBy(service))
        assert isinstance(service, RelayService)
        self.assertEqual(service.config.relay.node, "n-1")
        self.assertEqual(service.running, 0)
        self.assertFalse((self.folder / "state").exists())

    def test_a_mistake_is_one_line(self) -> None:
        """A mistake in the settings, or a file that is not there, ends the program with one line that names it."""
        config = self.folder / "relay.toml"
        config.write_text('[relay]\nnod = "x"\n')
        for path, expected in ((config, 'did you mean "node"'), (self.folder / "none.toml", "none.toml")):
            with self.assertRaises(SystemExit) as raised:
                makeService(self.options("--config", str(path)))
            line = str(raised.exception)
            self.assertTrue(line.startswith("appproxy-relay: "), line)
            self.assertIn(expected, line)
            self.assertNotIn("\n", line)
