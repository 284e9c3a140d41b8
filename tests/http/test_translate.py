"""Addresses in fields."""

from __future__ import annotations

import time

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.addresses import AmbiguousPath, ExternalURL, InternalURL
from appproxy.http.translate import Atlas, Translation, UnpublishedDestination


def pair(external: str, internal: str) -> tuple[ExternalURL, InternalURL]:
    """Both addresses of one place."""
    return ExternalURL.parse(external), InternalURL.parse(internal)


HR = pair("https://apps.test/hr/", "http://intra.corp:8080/app/")
WIKI = pair("https://wiki.test/", "http://wiki.corp/")
SHARED = pair("https://apps.test/shared/", "http://intra.corp:8080/shared/")
ANY = pair("https://*.any.test/", "http://*.any.corp/")
ATLAS = Atlas([HR, WIKI, SHARED, ANY])


class UpTests(SynchronousTestCase):
    """Towards the origin."""

    def setUp(self) -> None:
        """One application with another path inside."""
        self.hr = Translation(*HR, atlas=ATLAS)

    def up(self, name: bytes, value: bytes, translation: Translation | None = None) -> bytes:
        """What becomes of one field."""
        return (translation or self.hr).up([(name, value)])[0][1]

    @pytest.mark.feature("TRN-1")
    def test_all_move_as_one_set(self) -> None:
        """W02, L13: Host, Origin, Referer, Destination and If name the same place."""
        fields = [
            (b"HOST", b"apps.test"),
            (b"Accept", b"https://apps.test/hr/"),
            (b"origin", b"https://apps.test"),
            (b"Referer", b"https://apps.test/hr/a?b=https://apps.test/hr/"),
            (b"Destination", b"https://apps.test/hr/new%20name"),
            (b"If", b'<https://apps.test/hr/a> (<urn:uuid:1> ["x"]) </hr/b> (Not <urn:uuid:2>)'),
        ]
        self.assertEqual(
            self.hr.up(fields),
            [
                (b"HOST", b"intra.corp:8080"),
                (b"Accept", b"https://apps.test/hr/"),
                (b"origin", b"http://intra.corp:8080"),
                (b"Referer", b"http://intra.corp:8080/app/a?b=https://apps.test/hr/"),
                (b"Destination", b"http://intra.corp:8080/app/new%20name"),
                (b"If", b'<http://intra.corp:8080/app/a> (<urn:uuid:1> ["x"]) </app/b> (Not <urn:uuid:2>)'),
            ],
        )

    @pytest.mark.feature("TRN-1")
    def test_external_host_is_kept_on_request(self) -> None:
        """Without host translation the origin sees the external host in all of them, and its own path."""
        kept = Translation(*HR, host_header=False, atlas=ATLAS)
        self.assertEqual(self.up(b"Host", b"APPS.test:443", kept), b"apps.test")
        self.assertEqual(self.up(b"Origin", b"https://apps.test", kept), b"https://apps.test")
        self.assertEqual(self.up(b"Destination", b"https://apps.test/hr/x", kept), b"https://apps.test/app/x")
        self.assertEqual(
            kept.down([(b"Location", b"https://apps.test/app/x")]), [(b"Location", b"https://apps.test/hr/x")]
        )

    def test_origins(self) -> None:
        """Another application's origin becomes its internal one; strangers stay strangers."""
        for value, expected in (
            (b"https://wiki.test", b"http://wiki.corp"),
            (b"https://x.any.test:443", b"http://x.any.corp"),
            (b"null", b"null"),
            (b"https://evil.test", b"https://evil.test"),
            (b"http://apps.test", b"http://apps.test"),
            (b"https://apps.test/", b"https://apps.test/"),
            (b"https://apps.test.evil.test", b"https://apps.test.evil.test"),
            (b"https://bad_port:x", b"https://bad_port:x"),
        ):
            self.assertEqual(self.up(b"Origin", value), expected)

    def test_referers(self) -> None:
        """The host of a Referer goes with Host; other applications get their own; nonsense stays."""
        for value, expected in (
            (b"https://apps.test/", b"http://intra.corp:8080/"),
            (b"https://apps.test/hr", b"http://intra.corp:8080/app"),
            (b"https://apps.test/hr/../x", b"http://intra.corp:8080/hr/../x"),
            (b"https://apps.test/shared/x", b"http://intra.corp:8080/shared/x"),
            (b"https://wiki.test/p?q#f", b"http://wiki.corp/p?q#f"),
            (b"https://evil.test/https://apps.test/hr/", b"https://evil.test/https://apps.test/hr/"),
            (b"about:blank", b"about:blank"),
        ):
            self.assertEqual(self.up(b"Referer", value), expected)

    @pytest.mark.feature("PUB-3")
    def test_destination_must_be_published(self) -> None:
        """M05: WebDAV cannot copy to where no request could go."""
        self.assertEqual(self.up(b"Destination", b"/hr/x?y"), b"/app/x?y")
        self.assertEqual(self.up(b"Destination", b"https://wiki.test/x"), b"http://wiki.corp/x")
        for value in (
            b"http://intra.corp:8080/secret", b"/secret", b"https://apps.test/hr/../../secret", b"https://apps.test/hr/%2e%2e/x",
            b"https://apps.test/other", b"https://evil.test/", b"relative", b"",
        ):  # fmt: skip
            with self.assertRaises(UnpublishedDestination, msg=repr(value)):
                self.up(b"Destination", value)

    def test_target_path(self) -> None:
        """The target itself moves by the same rule."""
        self.assertEqual(self.hr.target_up(b"/hr/a%2Fb"), b"/app/a%2Fb")
        self.assertEqual(self.hr.target_up(b"/hr/a?b=/hr/?"), b"/app/a?b=/hr/?")
        self.assertEqual(self.hr.target_up(b"*"), b"*")
        with self.assertRaises(AmbiguousPath):
            self.hr.target_up(b"/shared/x")


class DownTests(SynchronousTestCase):
    """Towards the client."""

    def setUp(self) -> None:
        """One application with another path inside."""
        self.hr = Translation(*HR, atlas=ATLAS)

    def down(self, name: bytes, value: bytes, translation: Translation | None = None) -> bytes:
        """What becomes of one field."""
        return (translation or self.hr).down([(name, value)])[0][1]

    @pytest.mark.feature("TRN-1")
    def test_references(self) -> None:
        """L06, L13: what is published moves, and nothing that merely looks alike."""
        for value, expected in (
            (b"http://intra.corp:8080/app/x?y#z", b"https://apps.test/hr/x?y#z"),
            (b"HTTP://INTRA.corp:8080/app/x", b"https://apps.test/hr/x"),
            (b"http://intra.corp:8080/app", b"https://apps.test/hr"),
            (b"//intra.corp:8080/app/\xc3\xa9", b"https://apps.test/hr/\xc3\xa9"),
            (b"/app/x?/app/", b"/hr/x?/app/"),
            (b"/app", b"/hr"),
            (b"/apple", b"/apple"),
            (b"/shared/x?y", b"https://apps.test/shared/x?y"),
            (b"http://intra.corp:8080/shared/x", b"https://apps.test/shared/x"),
            (b"http://intra.corp:8080/elsewhere", b"http://intra.corp:8080/elsewhere"),
            (b"http://wiki.corp/p", b"https://wiki.test/p"),
            (b"http://wiki.corp", b"https://wiki.test/"),
            (b"http://deep.x.any.corp/p", b"https://deep.x.any.test/p"),
            (b"http://apps.test/app/x", b"https://apps.test/hr/x"),
            (b"http://apps.test/hr/x", b"https://apps.test/hr/x"),
            (b"https://apps.test/other", b"https://apps.test/other"),
            (b"http://apps.test:81/app/x", b"http://apps.test:81/app/x"),
            (b"http://intra.corp/app/x", b"http://intra.corp/app/x"),
            (b"https://intra.corp:8080/app/x", b"https://intra.corp:8080/app/x"),
            (b"http://intra.corp.evil.test:8080/app/", b"http://intra.corp.evil.test:8080/app/"),
            (b"http://intra.corpx:8080/app/", b"http://intra.corpx:8080/app/"),
            (b"http://u@intra.corp:8080/app/", b"http://u@intra.corp:8080/app/"),
            (b"http://intra.corp:8080\\@evil.test/app/", b"http://intra.corp:8080\\@evil.test/app/"),
            (b"next?x=//intra.corp:8080/app/", b"next?x=//intra.corp:8080/app/"),
            (b"?q", b"?q"),
            (b"", b""),
            (b"mailto:x@intra.corp", b"mailto:x@intra.corp"),
        ):
            self.assertEqual(self.down(b"Location", value), expected, value)
            self.assertEqual(self.down(b"content-LOCATION", value), expected, value)

    def test_alone(self) -> None:
        """Without an atlas only the application's own address moves."""
        self.assertEqual(self.down(b"Location", b"http://wiki.corp/p", Translation(*HR)), b"http://wiki.corp/p")
        self.assertEqual(self.down(b"Location", b"/shared/", Translation(*HR)), b"/shared/")

    @pytest.mark.feature("TRN-1")
    def test_refresh(self) -> None:
        """With or without quotes and ``url=``."""
        for value, expected in (
            (b"5; url=/app/x", b"5; url=/hr/x"),
            (b"0;URL='http://intra.corp:8080/app/x'", b"0;URL='https://apps.test/hr/x'"),
            (b'0, "/app/x"', b'0, "/hr/x"'),
            (b"5", b"5"),
        ):
            self.assertEqual(self.down(b"Refresh", value), expected)

    @pytest.mark.feature("TRN-1")
    def test_link(self) -> None:
        """Targets move, quoted text does not."""
        self.assertEqual(
            self.down(b"Link", b'</app/a.css>; rel=preload; title="</app/\\"x>", <http://wiki.corp/>; rel=next, <x>'),
            b'</hr/a.css>; rel=preload; title="</app/\\"x>", <https://wiki.test/>; rel=next, <x>',
        )

    def test_hostile_links_cost_no_time(self) -> None:
        """L11: linear, whatever the value."""
        began = time.process_time()
        for value in (b'\\"' * 30_000, b"<" * 60_000, b'"' * 60_001, b"http:" * 12_000, b"5;" + b" " * 60_000):
            for name in (b"Link", b"Refresh", b"Location", b"Content-Security-Policy", b"Set-Cookie"):
                self.down(name, value)
        self.assertLess(time.process_time() - began, 5)

    @pytest.mark.feature("TRN-1")
    def test_cross_origin_fields(self) -> None:
        """CORS and content security policy name external origins."""
        for value, expected in (
            (b"http://intra.corp:8080", b"https://apps.test"),
            (b"http://apps.test", b"https://apps.test"),
            (b"http://wiki.corp", b"https://wiki.test"),
            (b"http://x.any.corp", b"https://x.any.test"),
            (b"http://evil.test", b"http://evil.test"),
            (b"http://intra.corp:8080/", b"http://intra.corp:8080/"),
            (b"*", b"*"),
        ):
            self.assertEqual(self.down(b"Access-Control-Allow-Origin", value), expected)
        self.assertEqual(
            self.down(
                b"Content-Security-Policy",
                b"default-src 'self' http://intra.corp:8080; img-src http://intra.corp:8080/app/i/ https://cdn.test, a",
            ),
            b"default-src 'self' https://apps.test; img-src https://apps.test/hr/i/ https://cdn.test, a",
        )

    @pytest.mark.feature("TRN-1")
    def test_cookies(self) -> None:
        """S10: internal domains go, paths move, every other attribute stays octet by octet."""
        for value, expected in (
            (b"a=b", b"a=b"),
            (b"a=/app/; path = /app/x;HttpOnly;  SameSite=lax", b"a=/app/; path =/hr/x;HttpOnly;  SameSite=lax"),
            (b"a=b; Path=/app", b"a=b; Path=/hr"),
            (b"a=b; Path=/", b"a=b; Path=/"),
            (b"a=b; Path=/apple; Secure", b"a=b; Path=/apple; Secure"),
            (b"a=b; Domain=intra.corp; Secure", b"a=b; Secure"),
            (b"a=b; domain=.Corp", b"a=b"),
            (b"a=b; Domain=apps.test", b"a=b; Domain=apps.test"),
            (b"a=b; Domain=xintra.corp", b"a=b; Domain=xintra.corp"),
            (b"a=b; Domain=", b"a=b; Domain="),
            (b"__Host-a=b; Path=/app/; Secure", b"__Host-a=b; Path=/app/; Secure"),
        ):
            self.assertEqual(self.down(b"Set-Cookie", value), expected)

    def test_identical_hosts_keep_their_domains(self) -> None:
        """Where inside and outside have one name, there is nothing to hide."""
        same = Translation(*pair("https://sp.test/", "http://sp.test/"))
        self.assertEqual(self.down(b"Set-Cookie", b"a=b; Domain=test", same), b"a=b; Domain=test")
        self.assertEqual(self.down(b"Location", b"http://sp.test/x", same), b"https://sp.test/x")


@pytest.mark.feature("PUB-5")
class PortTests(SynchronousTestCase):
    """Several ports of one host."""

    def test_links_lead_to_the_port_that_is_meant(self) -> None:
        """A link without the port is taken for one with it only where nothing else is published there."""
        engine = pair("https://bi.test:4747/", "https://bi.corp:4747/")
        hub = pair("https://bi.test/", "https://bi.corp/")
        alone, beside = Translation(*engine, atlas=Atlas([engine])), Translation(*engine, atlas=Atlas([engine, hub]))
        for said, by_itself, together in (
            (b"https://bi.corp/hub", b"https://bi.corp/hub", b"https://bi.test/hub"),
            (b"https://bi.corp:4747/e", b"https://bi.test:4747/e", b"https://bi.test:4747/e"),
            (b"https://bi.test/hub", b"https://bi.test:4747/hub", b"https://bi.test/hub"),
        ):
            self.assertEqual(alone.reference_down(said), by_itself)
            self.assertEqual(beside.reference_down(said), together)


class FieldTests(SynchronousTestCase):
    """Every field, both ways."""

    @pytest.mark.feature("TRN-1")
    def test_other_fields_with_places(self) -> None:
        """L13: source maps, scopes of service workers and lists of origins move, lock tokens and the rest do not."""
        hr = Translation(*HR, atlas=ATLAS)
        fields = [
            (b"SourceMap", b"/app/x.js.map"),
            (b"Service-Worker-Allowed", b"/app/"),
            (b"Timing-Allow-Origin", b"http://intra.corp:8080, http://wiki.corp,*"),
            (b"Lock-Token", b"<opaquelocktoken:http://intra.corp:8080/app/>"),
            (b"X-Place", b"http://intra.corp:8080/app/"),
        ]
        moved = [b"/hr/x.js.map", b"/hr/", b"https://apps.test, https://wiki.test, *", fields[3][1], fields[4][1]]
        self.assertEqual([value for _, value in hr.down(fields)], moved)
        known = [name.lower() for name, _ in fields]
        self.assertEqual([value for _, value in hr.down(fields, known)], moved)
        self.assertEqual([value for _, value in hr.down(fields, [*known, b"server"])], moved)
        silent = [(b"Server", b"https://hr.test/"), (b"Date", b"now")]
        self.assertIs(hr.down(silent, [b"server", b"date"]), silent)
        token = [(b"Lock-Token", b"<https://apps.test/hr/>"), (b"X-Place", b"https://apps.test/hr/")]
        self.assertEqual(hr.up(token), token)

    @pytest.mark.feature("TRN-1")
    def test_headers_may_stay(self) -> None:
        """What answers say stays, and who asks from where; what is asked for is translated all the same."""
        plain = Translation(*HR, atlas=ATLAS, headers=False)
        answer = [(b"Location", b"http://intra.corp:8080/app/"), (b"Set-Cookie", b"a=b; Path=/app/")]
        self.assertEqual(plain.down(answer), answer)
        place = b"https://apps.test/hr/x"
        names = [b"Host", b"Origin", b"Referer", b"Destination", b"If"]
        values = [b"apps.test", b"https://apps.test", place, place, b"<%b> (<t>)" % place]
        inside = b"http://intra.corp:8080/app/x"
        self.assertEqual(
            [value for _, value in plain.up(list(zip(names, values, strict=True)))],
            [b"intra.corp:8080", b"https://apps.test", place, inside, b"<%b> (<t>)" % inside],
        )
        with self.assertRaises(UnpublishedDestination):
            plain.up([(b"Destination", b"/secret")])


class WildcardTests(SynchronousTestCase):
    """Many hosts in one application."""

    @pytest.mark.feature("PUB-4")
    def test_host_in_question(self) -> None:
        """Each external host has its own internal one."""
        a = Translation(*ANY, atlas=ATLAS).at("a.any.test")
        self.assertEqual(a.up([(b"Host", b"a.any.test")]), [(b"Host", b"a.any.corp")])
        self.assertEqual(a.down([(b"Location", b"http://b.any.corp/x")]), [(b"Location", b"https://b.any.test/x")])

    @pytest.mark.feature("PUB-4")
    def test_one_origin_for_all_hosts(self) -> None:
        """Links to it lead back to the host in question; from elsewhere nobody can say to which."""
        many = pair("https://*.sites.test/", "http://sites.corp/")
        atlas = Atlas([many, HR])
        a = Translation(*many, atlas=atlas).at("a.sites.test")
        self.assertEqual(a.reference_down(b"http://sites.corp/x"), b"https://a.sites.test/x")
        self.assertEqual(a.up([(b"Origin", b"https://a.sites.test")]), [(b"Origin", b"http://sites.corp")])
        elsewhere = Translation(*HR, atlas=atlas)
        self.assertEqual(elsewhere.reference_down(b"http://sites.corp/x"), b"http://sites.corp/x")

    def test_plain_application_is_itself(self) -> None:
        """There is nothing to choose."""
        hr = Translation(*HR)
        self.assertIs(hr.at("apps.test"), hr)


@pytest.mark.feature("PUB-6")
class AlternateTests(SynchronousTestCase):
    """An application with a second external address, to which the links of answers may lead."""

    def setUp(self) -> None:
        """The same application, asked at either address; links lead to the alternate one."""
        external, internal = HR
        self.alternate = ExternalURL.parse("https://global.test/people/")
        atlas = Atlas([(self.alternate, internal), HR, WIKI])
        self.at_external = Translation(external, internal, atlas=atlas, shown=self.alternate)
        self.at_alternate = Translation(self.alternate, internal, atlas=atlas)

    def test_absolute_links_lead_to_the_address_that_is_shown(self) -> None:
        """Wherever somebody asked."""
        for translation in (self.at_external, self.at_alternate):
            for said in (b"http://intra.corp:8080/app/x?y", b"https://global.test/people/x?y"):
                self.assertEqual(translation.reference_down(said), b"https://global.test/people/x?y")
        self.assertEqual(self.at_external.reference_down(b"https://apps.test/hr/x"), b"https://global.test/people/x")

    def test_what_belongs_to_the_page_stays_at_its_address(self) -> None:
        """Paths are relative to the page, cookies belong to its host, scripts come from its origin."""
        for translation, path, origin in (
            (self.at_external, b"/hr/", b"https://apps.test"),
            (self.at_alternate, b"/people/", b"https://global.test"),
        ):
            fields = [
                (b"Location", b"/app/x"),
                (b"Set-Cookie", b"a=b; Path=/app/; Domain=intra.corp"),
                (b"Access-Control-Allow-Origin", b"http://intra.corp:8080"),
            ]
            moved = [(b"Location", path + b"x"), (b"Set-Cookie", b"a=b; Path=" + path), (fields[2][0], origin)]
            self.assertEqual(translation.down(fields), moved)

    def test_both_addresses_are_one_inside(self) -> None:
        """The origin sees one place, wherever a page that refers to it was."""
        for translation in (self.at_external, self.at_alternate):
            for origin, path in ((b"https://apps.test", b"/hr/a"), (b"https://global.test", b"/people/a")):
                fields = [(b"Host", b"any"), (b"Origin", origin), (b"Referer", origin + path)]
                self.assertEqual(
                    [value for _, value in translation.up(fields)],
                    [b"intra.corp:8080", b"http://intra.corp:8080", b"http://intra.corp:8080/app/a"],
                )
