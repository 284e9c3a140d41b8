"""The catalog: which application an address belongs to."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, HeaderRule, SingleSignOn
from appproxy.identity import Identity
from appproxy.relay.catalog import Catalog, Published


def application(identifier: str, external: str, **more: Any) -> Application:
    """Something published at *external*."""
    fields = {"internal_url": "http://inside/", "connector_group": "hq", **more}
    return Application(id=identifier, external_url=external, **fields)


class FindTests(SynchronousTestCase):
    def found(self, catalog: Catalog, host: str, path: bytes = b"/") -> str | None:
        """The id of what is published there."""
        published = catalog.find(host, path)
        return published.id if published is not None else None

    def test_nothing_published(self) -> None:
        """An empty catalog knows no host."""
        catalog = Catalog()
        self.assertIsNone(catalog.find("hr.example.com", b"/"))
        self.assertFalse(catalog.knows_host("hr.example.com"))

    def test_whole_segments(self) -> None:
        """N18: a path covers itself and what is below it, never a longer word; ``/app1`` stands for ``/app1/``."""
        catalog = Catalog([application("one", "https://a.example.com/app1/")])
        for path in (b"/app1", b"/app1/", b"/app1/x", b"/app1/x/y"):
            self.assertEqual(self.found(catalog, "a.example.com", path), "one", path)
        for path in (b"/", b"/app", b"/app10", b"/app1x/", b"/App1/"):
            self.assertIsNone(self.found(catalog, "a.example.com", path), path)
        self.assertTrue(catalog.knows_host("a.example.com"))

    @pytest.mark.feature("PUB-2")
    def test_longer_paths_win(self) -> None:
        """Of several applications of one host the one with the longest path is found, in whatever order they came."""
        applications = [
            application("root", "https://a.example.com/"),
            application("deep", "https://a.example.com/x/y/"),
            application("x", "https://a.example.com/x/"),
        ]
        for order in (applications, applications[::-1]):
            catalog = Catalog(order)
            self.assertEqual(self.found(catalog, "a.example.com", b"/x/y/z"), "deep")
            self.assertEqual(self.found(catalog, "a.example.com", b"/x/yy"), "x")
            self.assertEqual(self.found(catalog, "a.example.com", b"/other"), "root")
            self.assertEqual([each.id for each in catalog.at_host("a.example.com")], ["deep", "x", "root"])

    def test_most_specific_host_wins(self) -> None:
        """M03: an exact host beats a wildcard, a longer wildcard a shorter one; only its policy holds."""
        catalog = Catalog(
            [
                application("any", "https://*.example.com/"),
                application("lab", "https://*.lab.example.com/"),
                application("x", "https://x.lab.example.com/"),
            ]
        )
        self.assertEqual(self.found(catalog, "x.lab.example.com"), "x")
        self.assertEqual(self.found(catalog, "y.lab.example.com"), "lab")
        self.assertEqual(self.found(catalog, "y.example.com"), "any")
        self.assertIsNone(self.found(catalog, "example.com"))
        self.assertIsNone(self.found(catalog, "lab.example.org"))
        self.assertIsNone(self.found(catalog, "evilexample.com"))
        self.assertEqual([each.id for each in catalog.at_host("x.lab.example.com")], ["x", "lab", "any"])
        self.assertTrue(catalog.knows_host("y.example.com"))

    def test_exact_host_without_that_path(self) -> None:
        """Where the exact host publishes other paths only, the wildcard serves the rest."""
        catalog = Catalog(
            [application("any", "https://*.example.com/"), application("x", "https://x.example.com/only/")]
        )
        self.assertEqual(self.found(catalog, "x.example.com", b"/only/a"), "x")
        self.assertEqual(self.found(catalog, "x.example.com", b"/else"), "any")

    def test_disabled(self) -> None:
        """R15: what is switched off is not found, but still listed among the applications."""
        catalog = Catalog([application("old", "https://old.example.com/", enabled=False)])
        self.assertIsNone(catalog.find("old.example.com", b"/"))
        self.assertFalse(catalog.knows_host("old.example.com"))
        self.assertEqual(list(catalog.applications), ["old"])
        self.assertEqual(catalog.of_group("hq"), [])

    def test_hosts_and_groups(self) -> None:
        """Exact hosts are listed in order; a group's applications are plain documents for the channel."""
        catalog = Catalog(
            [
                application("b", "https://b.example.com/"),
                application("a", "https://a.example.com/"),
                application("w", "https://*.example.com/", connector_group="lab"),
            ]
        )
        self.assertEqual(catalog.hosts(), ["a.example.com", "b.example.com"])
        self.assertEqual([document["id"] for document in catalog.of_group("lab")], ["w"])
        self.assertEqual({type(document) for document in catalog.of_group("hq")}, {dict})


class PublishedTests(SynchronousTestCase):
    def test_what_is_worked_out_once(self) -> None:
        """What every request asks of its application is at hand."""
        published = Published(application("a", "https://a.example.com/"))
        self.assertEqual((published.signs_in, published.pinned, published.ping), (True, False, 0.0))
        self.assertIn("https://a.example.com/", repr(published))

    def test_outline_tells_no_more_than_needed(self) -> None:
        """H05: of an identity only what this application's sign-on uses is told; absent claims stay absent."""
        identity = Identity("iss", "sub", "alice", ("staff",), {"mail": "a@x", "secret": "y"})
        plain = Published(application("a", "https://a.example.com/"))
        self.assertEqual(plain.outline(identity), {"user": "alice"})
        rules = (
            HeaderRule(name="X-G", value="groups"),
            HeaderRule(name="X-M", value="claim:mail"),
            HeaderRule(name="X-N", value="claim:name"),
            HeaderRule(name="X-C", value="const:c"),
        )
        headed = Published(application("h", "https://h.example.com/", sso=SingleSignOn(mode="header", header=rules)))
        told = {"user": "alice", "groups": ["staff"], "claims": {"mail": "a@x"}}
        self.assertEqual(headed.outline(identity), told)
