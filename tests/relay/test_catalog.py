"""The catalog: which application an address belongs to."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.applications import Application, CrossOrigin, HeaderRule, Segment, SingleSignOn
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

    def test_what_does_not_go_on(self) -> None:
        """H09: nothing that passes for a gateway's word but what the application lets clients say."""
        strict = Published(application("one", "https://a.example.com/", preauthentication="passthrough"))
        lenient = Published(application("two", "https://b.example.com/", client_fields=("X_Remote_User",)))
        self.assertIn(b"x-remote-user", strict.drop)
        self.assertEqual(strict.drop - lenient.drop, {b"x-remote-user"})

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


def segment(external: str, internal: str = "http://inside/", cors: CrossOrigin | None = None) -> Segment:
    """One more address of an application."""
    return Segment(external_url=external, internal_url=internal, cors=cors)


@pytest.mark.feature("PUB-5")
class SegmentTests(SynchronousTestCase):
    """Several addresses of one application."""

    def found(self, catalog: Catalog, host: str, path: bytes, *server: str) -> str | None:
        """The external URL that is found there."""
        published = catalog.find(host, path, *server)
        return str(published.external) if published is not None else None

    def test_each_address_is_found(self) -> None:
        """Other hosts and other paths lead to the same application, each by its own address."""
        more = (segment("https://files.example.com/"), segment("https://hr.example.com/api/"))
        catalog = Catalog([application("hr", "https://hr.example.com/", segment=more)])
        for host, path, external in (
            ("hr.example.com", b"/x", "https://hr.example.com/"),
            ("hr.example.com", b"/api/x", "https://hr.example.com/api/"),
            ("files.example.com", b"/x", "https://files.example.com/"),
        ):
            published = catalog.find(host, path)
            assert published is not None
            self.assertEqual((published.id, str(published.external), published.segment), ("hr", external, external))
        self.assertEqual(len(catalog.of_group("hq")), 1)

    @pytest.mark.feature("SCN-9")
    def test_ports_of_one_host(self) -> None:
        """Where one host has several ports, the port that the client names decides; an unknown one leads nowhere."""
        more = (segment("https://bi.example.com:4747/"), segment("https://bi.example.com:4747/api/"))
        catalog = Catalog([application("bi", "https://bi.example.com/", segment=more)])
        for authority, path, external in (
            ("bi.example.com", b"/api/x", "https://bi.example.com/"),
            ("bi.example.com:4747", b"/x", "https://bi.example.com:4747/"),
            ("bi.example.com:4747", b"/api/x", "https://bi.example.com:4747/api/"),
            ("bi.example.com:4242", b"/x", None),
        ):
            self.assertEqual(self.found(catalog, "bi.example.com", path, "https", authority), external)

    def test_the_only_port_need_not_be_named(self) -> None:
        """N15: with one port at a host nobody looks at the port: it may be mapped in front of the relay."""
        catalog = Catalog([application("a", "https://a.example.com:8443/")])
        for authority in ("a.example.com", "a.example.com:8443", "a.example.com:9"):
            self.assertEqual(
                self.found(catalog, "a.example.com", b"/", "https", authority), "https://a.example.com:8443/"
            )

    def test_ports_of_addresses_in_brackets(self) -> None:
        """N16: colons of an IPv6 address are no port."""
        catalog = Catalog([application("six", "https://[fd00::1]/"), application("other", "https://[fd00::1]:8443/")])
        self.assertEqual(self.found(catalog, "[fd00::1]", b"/", "https", "[fd00::1]"), "https://[fd00::1]/")
        self.assertEqual(self.found(catalog, "[fd00::1]", b"/", "https", "[fd00::1]:8443"), "https://[fd00::1]:8443/")

    @pytest.mark.feature("PUB-4")
    def test_http_and_https_together(self) -> None:
        """Both schemes of one host lead to their own; in the clear, what has only TLS is found for its redirect."""
        catalog = Catalog(
            [
                application("clear", "http://*.example.com/public/", preauthentication="passthrough"),
                application("tls", "https://*.example.com/"),
                application("port", "https://*.example.com:8443/"),
            ]
        )
        for scheme, path, external in (
            ("http", b"/public/x", "http://*.example.com/public/"),
            ("https", b"/public/x", "https://*.example.com/"),
            ("https", b"/", "https://*.example.com/"),
            ("http", b"/", "https://*.example.com/"),
        ):
            self.assertEqual(self.found(catalog, "a.example.com", path, scheme, "a.example.com"), external)
        only = Catalog(
            [application("port", "https://a.example.com:8443/"), application("tls", "https://a.example.com/")]
        )
        self.assertEqual(self.found(only, "a.example.com", b"/", "http", "a.example.com"), "https://a.example.com/")

    def test_an_empty_list_publishes_nothing(self) -> None:
        """The application is known, and nowhere to be found."""
        catalog = Catalog([Application(id="none", connector_group="hq", segment=())])
        self.assertEqual((catalog.hosts(), list(catalog.applications)), ([], ["none"]))

    @pytest.mark.feature("PUB-6")
    def test_alternate_url(self) -> None:
        """The same application at a second address, with the rules of its first segment."""
        rules = CrossOrigin(allowed_origins=("*",))
        catalog = Catalog(
            [
                Application(
                    id="hr",
                    connector_group="hq",
                    segment=(segment("https://hr.example.com/", cors=rules), segment("https://b.example.com/")),
                    alternate_url="https://global.example.com/",
                )
            ]
        )
        published = catalog.find("global.example.com", b"/x")
        assert published is not None
        self.assertEqual((published.id, published.segment), ("hr", "https://global.example.com/"))
        self.assertIsNotNone(published.cors)

    def test_a_plain_application_is_not_attended(self) -> None:
        """What uses nothing of all this has no further name for the connector, and no further look at its requests."""
        plain = Published(application("a", "https://a.example.com/"))
        self.assertEqual((plain.segment, plain.attended), ("", False))
        self.assertTrue(Published(application("a", "https://a.example.com/", maintenance=True)).attended)

    def test_origin_of_a_host(self) -> None:
        """With the wildcard's labels and the port."""
        self.assertEqual(
            Published(application("a", "https://*.example.com:8443/")).origin("x.y.example.com"),
            "https://x.y.example.com:8443",
        )


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
