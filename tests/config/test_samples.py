"""The samples under ``etc/`` are what the readers read."""

from __future__ import annotations

from pathlib import Path

import pytest

from appproxy.config import check_publishing, read_apply, read_connector, read_relay
from tests.config.files import Written

ETC = Path(__file__).parents[2] / "etc"


@pytest.mark.feature("OPS-1")
class TestSamples(Written):
    """Every sample works once its files are there."""

    def sample(self, name: str) -> Path:
        """A copy of a sample, whose files are in the test's own folder."""
        return self.write(name, (ETC / name).read_text("utf-8").replace("/etc/appproxy/", ""))

    def test_relay(self) -> None:
        """``relay.toml`` is read; what it sets to the default is the default."""
        self.write("client-secret", "s")
        config = read_relay(self.sample("relay.toml"), {})
        default = read_relay(None, {"HOME": "/"})
        self.assertEqual((config.session, config.limits), (default.session, default.limits))
        self.assertEqual(config.relay.public_url, "https://proxy.example.com")
        self.assertEqual(config.provider[0].client_secret, "s")

    def test_connector(self) -> None:
        """``connector.toml`` is read."""
        config = read_connector(self.sample("connector.toml"), {})
        self.assertEqual(config.connector.name, "hq-1")

    def test_applications(self) -> None:
        """``applications.toml`` is read and can be published by the sample relay."""
        file = read_apply(self.sample("applications.toml"))
        self.assertEqual([each.id for each in file.applications], ["hr", "docs"])
        check_publishing(file.applications, ["corp"], "proxy.example.com")
