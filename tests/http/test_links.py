"""Links in text."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from appproxy.http.addresses import ExternalURL, InternalURL
from appproxy.http.links import Links, LinkScanner
from appproxy.http.translate import Atlas, Translation
from tests.http.test_translate import ANY, ATLAS, HR, SHARED, WIKI, pair

HR_LINKS = Links(Translation(*HR, atlas=ATLAS))
WIKI_LINKS = Links(Translation(*WIKI, atlas=ATLAS))
HREFS = Links(Translation(*HR, atlas=ATLAS), elements=True)


def moved(text: bytes, links: Links = HR_LINKS) -> bytes:
    """*text* with its links moved."""
    scanner = LinkScanner(links)
    return scanner.receive(text) + scanner.end()


class AbsoluteTests(SynchronousTestCase):
    """Links with a host."""

    @pytest.mark.feature("TRN-2")
    def test_links_to_everything_published(self) -> None:
        """From one application to itself and to others, at any port, by any scheme that leads there."""
        for text, expected in (
            (b'<a href="http://intra.corp:8080/app/x?y#z">', b'<a href="https://apps.test/hr/x?y#z">'),
            (b"<a href=http://intra.corp:8080/app>", b"<a href=https://apps.test/hr>"),
            (b"HTTP://Wiki.CORP:80/x", b"https://wiki.test/x"),
            (b"url(http://wiki.corp/a.png)", b"url(https://wiki.test/a.png)"),
            (b"@import 'http://wiki.corp/a.css';", b"@import 'https://wiki.test/a.css';"),
            (b"srcset='http://wiki.corp/a 1x, http://wiki.corp/b'", b"srcset='https://wiki.test/a 1x, https://wiki.test/b'"),
            (b'new WebSocket("ws://wiki.corp/s")', b'new WebSocket("wss://wiki.test/s")'),
            (b"<id>http://deep.x.any.corp/1</id>", b"<id>https://deep.x.any.test/1</id>"),
            (b'base = "http://wiki.corp" + path', b'base = "https://wiki.test" + path'),
            (b"'//wiki.corp/x'", b"'//wiki.test/x'"),
            (b"http://intra.corp:8080/shared/x", b"https://apps.test/shared/x"),
            (b"http://apps.test/app/x", b"https://apps.test/hr/x"),
            (b"See http://wiki.corp. Or http://wiki.corp./x", b"See https://wiki.test. Or https://wiki.test/x"),
            (b"\xe8\xa7\x81http://wiki.corp/\xe4\xb8\xad", b"\xe8\xa7\x81https://wiki.test/\xe4\xb8\xad"),
            (b'0;url=http://wiki.corp/">', b'0;url=https://wiki.test/">'),
        ):  # fmt: skip
            self.assertEqual(moved(text), expected)

    @pytest.mark.feature("TRN-2")
    def test_links_in_every_spelling(self) -> None:
        """L07: JSON, scripts, escaped HTML and links within links keep their own way to write slash and colon."""
        for text, expected in (
            (rb'"http:\/\/intra.corp:8080\/app\/x"', rb'"https:\/\/apps.test\/hr\/x"'),
            (rb'"{\"u\":\"http:\\/\\/wiki.corp\\/x\"}"', rb'"{\"u\":\"https:\\/\\/wiki.test\\/x\"}"'),
            (rb'"\u0022http:\u002f\u002fwiki.corp\u002fx"', rb'"\u0022https:\u002f\u002fwiki.test\u002fx"'),
            (rb'"a\nhttp://wiki.corp/x"', rb'"a\nhttps://wiki.test/x"'),
            (b"href='http:&#x2F;&#x2F;wiki.corp&#x2F;x'", b"href='https:&#x2F;&#x2F;wiki.test&#x2F;x'"),
            (b"data-x='{&quot;u&quot;:&quot;http://wiki.corp&quot;}'", b"data-x='{&quot;u&quot;:&quot;https://wiki.test&quot;}'"),
            (b"?to=http%3A%2F%2Fintra.corp%3A8080%2Fapp%2Fx&y", b"?to=https%3A%2F%2Fapps.test%2Fhr%2Fx&y"),
            (b"?to=http%253a%252f%252fwiki.corp%252fx", b"?to=https%253a%252f%252fwiki.test%252fx"),
            (b"%22http%3A%2F%2Fwiki.corp%22", b"%22https%3A%2F%2Fwiki.test%22"),
        ):  # fmt: skip
            self.assertEqual(moved(text), expected)

    def test_external_ports_and_schemes(self) -> None:
        """A port is written as the text writes colons; another scheme is written out."""
        plain = pair("http://apps.test:8000/x/", "http://plain.corp/")
        links = Links(Translation(*WIKI, atlas=Atlas([WIKI, plain])))
        for text, expected in (
            (b"http://plain.corp/a", b"http://apps.test:8000/x/a"),
            (b"ws://plain.corp/a", b"ws://apps.test:8000/x/a"),
            (b"http%3A%2F%2Fplain.corp%2Fa", b"http%3A%2F%2Fapps.test%3A8000%2Fx%2Fa"),
            (b"'%2F%2Fplain.corp%2Fa", b"'http%3A%2F%2Fapps.test%3A8000%2Fx%2Fa"),
            (b"'//plain.corp/a'", b"'http://apps.test:8000/x/a'"),
        ):
            self.assertEqual(moved(text, links), expected)

    def test_addresses(self) -> None:
        """An IPv6 literal is a host like others."""
        links = Links(Translation(*pair("https://six.test/", "http://[fd00::1]:81/"), atlas=ATLAS))
        self.assertEqual(moved(b"'http://[fd00:0::1]:81/a'", links), b"'https://six.test/a'")
        self.assertEqual(moved(b"'http://[fd00::2]:81/a' //[::::/", links), b"'http://[fd00::2]:81/a' //[::::/")

    @pytest.mark.feature("TRN-2")
    def test_form_values(self) -> None:
        """L07: what a form sends back is what the origin wrote; its other attributes may be links like any other."""
        for text in (
            b'<input type="hidden" name=from value="http://wiki.corp/x?">',
            b"<INPUT\nVALUE = 'next=http://wiki.corp/x' type=hidden>",
            b"<input value=http://wiki.corp/x>",
            b'<input placeholder="a=b" value="see //wiki.corp/x">',
            rb'"<input name=\"a\" value=\"http://wiki.corp/x\">"',
        ):
            self.assertEqual(moved(text), text)
        for text, expected in (
            (b'<input value="x" src="http://wiki.corp/x">', b'<input value="x" src="https://wiki.test/x">'),
            (b'<input value="x"><a href="http://wiki.corp/">', b'<input value="x"><a href="https://wiki.test/">'),
            (b'<input formaction="http://wiki.corp/">', b'<input formaction="https://wiki.test/">'),
            (b'<option value="http://wiki.corp/x">', b'<option value="https://wiki.test/x">'),
            (b'<input data-value="http://wiki.corp/x">', b'<input data-value="https://wiki.test/x">'),
        ):
            self.assertEqual(moved(text), expected)

    def test_look_alikes(self) -> None:
        """L06: other hosts, users, ports, schemes and paths stay as they are."""
        for text in (
            b"http://intra.corp.evil.test:8080/app/", b"http://wiki.corpx/", b"http://wiki.corp-x/", b"http://xwiki.corp/",
            b"http://wiki.corp_/", b"http://wiki.corp@evil.test/", b"http://wiki.corp:80@evil.test/", b"http://u@wiki.corp/",
            b"http://wiki.corp:p@evil.test/", b"http://wiki.corp,@evil.test/", b"http://wiki.corp;x@evil.test/",
            b"http://wiki.corp)x@evil.test/", b"http://wiki.corp\\@evil.test/", b"http://wiki.corp\\x2eevil.test/",
            b"http://wiki.corp&#46;evil.test/", b"http://wiki.corp&period;evil.test/", b"http://wiki.corp%2eevil.test/",
            b"http%3A%2F%2Fwiki.corp%2eevil.test", b"http%3A%2F%2Fwiki.corp%40evil.test%2F", b"http://wiki.corp\xc3\xa9.test/",
            b"http://wiki.corp:81/", b"http://wiki.corp:800/", b"http://wiki.corp:999999/", b"https://wiki.corp/",
            b"ftp://wiki.corp/", b"xhttp://wiki.corp/", b"git+http://wiki.corp/", b"http://evil.test//wiki.corp/",
            b"http:////wiki.corp/", b"http://evil.test/?//wiki.corp/", b"http://intra.corp:8080/apple",
            b"http://intra.corp:8080/", b"http://intra.corp:8080", b"http://any.corp/", b"http://.any.corp/",
            b"wiki.corp/", b"http:/wiki.corp/", b"http:\\\\wiki.corp/",
        ):  # fmt: skip
            self.assertEqual(moved(text), text)

    def test_alone(self) -> None:
        """Without an atlas only the application's own links move."""
        links = Links(Translation(*HR))
        self.assertEqual(
            moved(b"http://wiki.corp/ http://intra.corp:8080/app/", links), b"http://wiki.corp/ https://apps.test/hr/"
        )

    def test_other_charsets(self) -> None:
        """L04: where letters may belong to the octet before them, they begin no link."""
        for wary, expected in ((False, b"\x81https://wiki.test/"), (True, b"\x81http://wiki.corp/")):
            scanner = LinkScanner(WIKI_LINKS, wary)
            self.assertEqual(scanner.receive(b"\x81http://wiki.corp/") + scanner.end(), expected)
        scanner = LinkScanner(WIKI_LINKS, True)
        said = '"表http:\\/\\/wiki.corp\\/表//wiki.corp/ http://wiki.corp/表"'.encode("shift_jis")
        self.assertEqual(
            (scanner.receive(said) + scanner.end()).decode("shift_jis"),
            '"表https:\\/\\/wiki.test\\/表//wiki.corp/ https://wiki.test/表"',
        )

    def test_external_paths_break_no_quotes(self) -> None:
        """L07: what a published path may hold is escaped wherever it is written."""
        odd = pair("https://odd.test/it's/(a)&b/", "http://odd.corp/")
        links = Links(Translation(*WIKI, atlas=Atlas([WIKI, odd])))
        self.assertEqual(moved(b"'http://odd.corp/x'", links), b"'https://odd.test/it%27s/%28a%29%26b/x'")


class FromTheRootTests(SynchronousTestCase):
    """Links that begin with a slash."""

    @pytest.mark.feature("TRN-2")
    def test_where_markup_says_so(self) -> None:
        """Attributes, style sheets and refreshes; also inside of scripts and JSON."""
        for text, expected in (
            (b'<a href="/app/x?y">', b'<a href="/hr/x?y">'),
            (b"<a HREF = /app>", b"<a HREF = /hr>"),
            (b"<img src='/shared/a'>", b"<img src='/shared/a'>"),
            (b'<img srcset="/app/a 1x, /app/b 2x">', b'<img srcset="/hr/a 1x, /hr/b 2x">'),
            (b"<use xlink:href='/app/i.svg'/>", b"<use xlink:href='/hr/i.svg'/>"),
            (b'<div data-url="/app/x">', b'<div data-url="/hr/x">'),
            (b'<meta content="0; url=/app/x">', b'<meta content="0; url=/hr/x">'),
            (b"a { b: url( /app/c) url('/app/d') }", b"a { b: url( /hr/c) url('/hr/d') }"),
            (b'@import "/app/c.css";', b'@import "/hr/c.css";'),
            (b'location.href = "/app/x"', b'location.href = "/hr/x"'),
            (rb'"<a href=\"\/app\/x\">"', rb'"<a href=\"\/hr\/x\">"'),
            (b"href=&quot;/app/x&quot;", b"href=&quot;/hr/x&quot;"),
        ):
            self.assertEqual(moved(text), expected)

    def test_where_nothing_says_so(self) -> None:
        """Words, divisions, expressions and paths of other things are no links."""
        for text in (
            b"a /app/ b", b'x = "/app/x"', b'{"path": "/app/x"}', b"<b title='/app/x'>", b'href="/apple"',
            b'href="x/app/"', b'href="" /app/', b"f(/app/)", b"<p>/app/x</p>", b"srcset='a' b, /app/",
            b'href="//app/x"', b"import '/app/x'",
        ):  # fmt: skip
            self.assertEqual(moved(text), text)

    def test_to_other_places_of_the_same_server(self) -> None:
        """They lead to where these are published, spelled as the slash was."""
        here, there = pair("https://a.test/", "http://one.corp/a/"), pair("https://b.test:444/", "http://one.corp/b/")
        links = Links(Translation(*here, atlas=Atlas([here, there])))
        for text, expected in (
            (b'href="/a/x"', b'href="/x"'),
            (b'href="/a"', b'href="/"'),
            (b'href="/b/x"', b'href="https://b.test:444/x"'),
            (rb"href=\"\/b\/x\"", rb"href=\"https:\/\/b.test:444\/x\""),
            (b'href="/c/x"', b'href="/c/x"'),
        ):
            self.assertEqual(moved(text, links), expected)

    def test_below_a_path(self) -> None:
        """An origin that is published below a path has all its links below it."""
        links = Links(Translation(*pair("https://apps.test/x/", "http://one.corp/")))
        text = b'href="/" src="/a" src="//a/b" url(/)'
        self.assertEqual(moved(text, links), b'href="/x/" src="/x/a" src="//a/b" url(/x/)')

    def test_where_paths_agree_nothing_is_looked_for(self) -> None:
        """They lead there as they are."""
        self.assertEqual(moved(b'href="/app/x"', WIKI_LINKS), b'href="/app/x"')
        self.assertFalse(WIKI_LINKS._from_root)


class ElementTests(SynchronousTestCase):
    """WebDAV's ``href`` elements."""

    @pytest.mark.feature("TRN-1")
    def test_hrefs_of_a_multistatus(self) -> None:
        """L13: places in ``href`` move as those in fields do, whatever the prefix; properties stay."""
        text = (
            b'<D:multistatus xmlns:D="DAV:" x="http://intra.corp:8080/app/"><D:response>\n<D:href>%b</D:href>'
            b"<D:displayname>http://intra.corp:8080/app/x</D:displayname><href>\n %b</href></D:response>"
        )
        self.assertEqual(
            moved(text % (b"/app/x%20y", b"http://intra.corp:8080/app/z"), HREFS),
            text % (b"/hr/x%20y", b"https://apps.test/hr/z"),
        )


PIECES = st.sampled_from(
    rb"""http https ws h wx : :/ / // \/ \\/ \u002f %2F %252f %3A &#x2F; &# & ; %25 % \ wiki.corp intra.corp a.any.corp
    apps.test :8080 :80 8 /app/ /app /apple app hr . - @ ? # " ' = ( ) , < > href= src=" srcset=" url( @import x 1
    \n \u0022 %22 &quot;""".split()
) | st.sampled_from(
    [b" ", b"\n", b"\xc3\xa9", b" 1x, /app/", b'href="/app/', b"http://wiki.corp/", b"http://intra.corp:8080/app"]
)


HTML_PIECES = st.sampled_from(
    [b"<textarea rows=2>", b"</textarea>", b"<textareas>", b"<script>", b"</Script >", b"<a href='http://wiki.corp/a'>"]
)


class TypedTests(SynchronousTestCase):
    """What goes back to the origin stays."""

    def moved(self, text: bytes) -> bytes:
        scanner = LinkScanner(HR_LINKS, html=True)
        return scanner.receive(text) + scanner.end()

    @pytest.mark.feature("TRN-2")
    def test_what_people_typed_stays(self) -> None:
        """The text of a textarea, but not what a script says of one, nor what follows."""
        link, there = b"http://wiki.corp/a ", b"https://wiki.test/a "
        typed = b"<TextArea name=t>" + link + b"<script>" + link + b"</textarea\n>"
        self.assertEqual(self.moved(link + typed + link), there + typed + there)
        script = b"<script>x = '<textarea>'; y = '%b'</script>"
        self.assertEqual(self.moved(script % link + link), script % there + there)
        self.assertEqual(self.moved(b"<textareas>" + link), b"<textareas>" + there)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(HTML_PIECES, max_size=12).map(b"".join), st.data())
    def test_however_it_is_cut(self, text: bytes, data: st.DataObject) -> None:
        """L05: the same result for every split."""
        scanner, result, rest = LinkScanner(HR_LINKS, html=True), b"", text
        while rest:
            cut = data.draw(st.integers(1, len(rest)))
            result += scanner.receive(rest[:cut])
            rest = rest[cut:]
        self.assertEqual(result + scanner.end(), self.moved(text))


class StreamTests(SynchronousTestCase):
    """Piece by piece."""

    @settings(max_examples=400, deadline=None)
    @given(st.lists(PIECES, max_size=24).map(b"".join), st.data(), st.sampled_from([HR_LINKS, WIKI_LINKS, HREFS]))
    def test_however_it_is_cut(self, text: bytes, data: st.DataObject, links: Links) -> None:
        """L05: the same result for every split."""
        whole = moved(text, links)
        scanner, result, rest = LinkScanner(links), b"", text
        while rest:
            cut = data.draw(st.integers(1, len(rest)))
            result += scanner.receive(rest[:cut])
            rest = rest[cut:]
        self.assertEqual(result + scanner.end(), whole)
        by_octet = LinkScanner(links)
        self.assertEqual(b"".join(by_octet.receive(b"%c" % octet) for octet in text) + by_octet.end(), whole)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(PIECES, max_size=24).map(b"".join))
    def test_quotes_stay(self, text: bytes) -> None:
        """L07: outside of links nothing changes, and no octet that could end a string or an element comes or goes."""
        for octet in (b'"', b"'", b"<", b">", b" ", b"\n", b"(", b")", b"=", b","):
            self.assertEqual(moved(text).count(octet), text.count(octet))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(PIECES, max_size=24).map(b"".join))
    def test_what_is_outside_stays(self, text: bytes) -> None:
        """What was translated once is not changed by another turn."""
        once = moved(text)
        self.assertEqual(moved(once), once)

    def test_little_is_held_back(self) -> None:
        """L10: what ends in a complete line or tag is passed on at once, all else within a bounded number of octets."""
        scanner = LinkScanner(HR_LINKS)
        for text in (b"data: http://wiki.corp/\n\n", b"<p>", b"word ", b"that is so", b"a.b "):
            self.assertEqual(scanner.receive(text), text.replace(b"http://wiki.corp", b"https://wiki.test"))
        self.assertEqual(scanner.receive(b"http://wiki."), b"")
        self.assertEqual(scanner.receive(b"corp/"), b"")
        self.assertEqual(scanner.receive(b" "), b"https://wiki.test/ ")
        held = 0
        for _ in range(100):
            held += 1000 - len(scanner.receive(b"//" + b"a" * 998))
            self.assertLessEqual(held, HR_LINKS.reach)
            self.assertLessEqual(len(scanner._text), HR_LINKS.reach + 2048)

    def test_hostile_texts_cost_no_time(self) -> None:
        """L11: linear, whatever is repeated; 200 KB of each within a second."""
        for each in (b"http:", b"http://", b"//", b"\\", b"&#x0", b"%25", b"//wiki.corp", b'srcset="', b", /x", b"=/",
                     b' href="/', b"a.", b"http://wiki.corp,", b"&", b"<D:href>", b"url( "):  # fmt: skip
            for links in (HR_LINKS, HREFS):
                text = each * (200_000 // len(each))
                began = time.process_time()
                scanner = LinkScanner(links)
                for start in range(0, len(text), 4096):
                    scanner.receive(text[start : start + 4096])
                scanner.end()
                self.assertLess(time.process_time() - began, 1, each)

    def test_remembered_servers_are_bounded(self) -> None:
        """A page that names any number of hosts costs no memory."""
        links = Links(Translation(*ANY, atlas=Atlas([ANY])).at("a.any.test"))
        moved(b" ".join(b"http://h%d.any.corp/" % number for number in range(3000)), links)
        self.assertLessEqual(len(links._remembered), 1024)


class ConsistencyTests(SynchronousTestCase):
    """Bodies and fields."""

    def test_links_lead_where_fields_lead(self) -> None:
        """L13: a body's link and a Location with the same address become the same."""
        translation = Translation(*HR, atlas=ATLAS)
        for address in (
            b"http://intra.corp:8080/app/x?y#z", b"http://intra.corp:8080/shared/x", b"http://intra.corp:8080/elsewhere",
            b"http://wiki.corp/p", b"http://deep.x.any.corp/p", b"http://apps.test/app/x", b"https://apps.test/other",
            b"http://apps.test:81/app/x", b"https://intra.corp:8080/app/x", b"http://u@intra.corp:8080/app/",
        ):  # fmt: skip
            ((_, location),) = translation.down([(b"Location", address)])
            self.assertEqual(moved(b'"%b"' % address), b'"%b"' % location)

    def test_an_alternate_address_is_shown(self) -> None:
        """Links lead to the address that is shown, when that is another."""
        shown = ExternalURL.parse("https://shown.test/")
        links = Links(Translation(*WIKI, shown=shown))
        self.assertEqual(moved(b"'http://wiki.corp/x'", links), b"'https://shown.test/x'")
        self.assertEqual(SHARED[1], InternalURL.parse("http://intra.corp:8080/shared/"))
