"""``twistd appproxy-connector``: mistakes are one line and an exit code."""

from __future__ import annotations

from pathlib import Path

from twisted.application.service import IService
from twisted.python.usage import UsageError
from twisted.trial.unittest import SynchronousTestCase

from appproxy.connector.tap import Options, makeService


class TapTests(SynchronousTestCase):
    """What is typed."""

    def options(self, text: str) -> Options:
        path = Path(self.mktemp())
        path.write_text(text)
        options = Options()
        options.parseOptions(["--config", str(path)])
        return options

    def test_settings_are_required(self) -> None:
        """The line says how they are given."""
        problem = self.assertRaises(UsageError, Options().parseOptions, [])
        self.assertIn("--config connector.toml", str(problem))

    def test_a_mistake_in_the_settings_is_one_line(self) -> None:
        """Naming the setting; no traceback; exit code 1."""
        for text in ("", '[connector]\nrelays = ["https://relay"]\nchanels = 3\n', "nonsense"):
            with self.assertRaises(SystemExit) as ended:
                makeService(self.options(text))
            self.assertIsInstance(ended.exception.code, str)
            self.assertTrue(str(ended.exception.code).startswith("appproxy-connector: "))
            self.assertEqual(str(ended.exception.code).count("\n"), 0)

    def test_good_settings_make_a_service(self) -> None:
        """Nothing is dialled or written before it is started."""
        service = makeService(self.options('[connector]\nrelays = ["https://relay:8443"]\n'))
        self.assertTrue(IService.providedBy(service))
