"""The apply file."""

from __future__ import annotations

import pytest

from appproxy.applications import Application, ConnectorGroup, from_document, to_document
from appproxy.config import ApplyFile, parse_apply, read_apply
from appproxy.config.publishing import check_groups, check_overlap, check_publishing
from tests.config.files import Written


def written(**changes: str) -> str:
    """An application as text; *changes* replace or add lines, with TOML on the right."""
    lines = {
        "id": '"hr"',
        "external_url": '"https://hr.example.com/"',
        "internal_url": '"http://hr.corp.local:8080/"',
        "connector_group": '"hq"',
        **{key.replace("__", "."): value for key, value in changes.items()},
    }
    return "[[application]]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items() if value)


def header(name: str, value: str) -> str:
    """An application with one header."""
    return written(sso=f'{{ mode = "header", header = [{{ name = "{name}", value = "{value}" }}] }}')


def segment(**changes: str) -> str:
    """An application with one segment; *changes* replace or add lines of that."""
    lines = {"external_url": '"https://files.example.com/"', "internal_url": '"http://files.corp.local/"', **changes}
    return written() + "[[application.segment]]\n" + "".join(f"{key} = {value}\n" for key, value in lines.items())


HR = "apps.toml: application[hr]."
_RESERVED = "is written by the relay or connector itself; choose another header"
_SOURCES = "use user, groups, claim:NAME or const:TEXT"

#: What is written, and what is said.
MISTAKES = {
    "[[applications]]": 'apps.toml: applications: unknown key; did you mean "application"?',
    "[application]": "apps.toml: application: is written [[application]], with two brackets",
    written(id=""): "apps.toml: application[0].id: is missing",
    written(id='"a b"'): "apps.toml: application[0].id: 'a b' is not a name; use letters, digits, dots and hyphens",
    written(sign_in='{ frame_ancestors = ["https://teams.example.com"] }'): (
        HR + 'sign_in.frame_ancestors: needs cookies.same_site = "none"; others stay out of frames'
    ),
    written(cookies='{ same_site = "none" }', sign_in='{ frame_ancestors = ["https://teams.example.com/x"] }'): (
        HR + "sign_in.frame_ancestors[0]: 'https://teams.example.com/x' has a path; write only scheme, host and port"
    ),
    written(sign_in='{ cross_site_posts = ["/acs", "/a/../b"] }'): (
        HR + "sign_in.cross_site_posts[1]: '/a/../b' is not a plain path; write for instance \"/saml/acs\""
    ),
    written(sign_in='{ cross_site_posts = ["acs"] }'): (
        HR + "sign_in.cross_site_posts[0]: 'acs' is not a plain path; write for instance \"/saml/acs\""
    ),
    written(api='{ scopes = ["read"] }'): HR + "api.scopes: needs audiences: what the tokens are for",
    written(api='{ audiences = ["a b"] }'): (
        HR + "api.audiences[0]: 'a b' has spaces, quotes or other than ASCII in it"
    ),
    written(api='{ audiences = ["a"], token_header = "Cookie" }'): (
        HR + "api.token_header: Cookie is written by the relay or connector itself; choose another header"
    ),
    written(api='{ audiences = ["a"] }', preauthentication='"passthrough"'): (
        HR + "api: has no effect with passthrough, which knows no users; remove it"
    ),
    written(client_certificate='{ user = "upn" }'): (
        HR + "client_certificate.user: needs ca: who issues the certificates, as PEM"
    ),
    written(client_certificate='{ ca = "x", forward = true }'): (
        HR + "client_certificate.ca: is not the certificate of an authority in PEM form, or several"
    ),
    written(rate="{ user = 5 }", preauthentication='"passthrough"'): (
        HR + "rate.user: has no effect with passthrough, which knows no users; remove it"
    ),
    written(rate="{ user = -1 }"): HR + "rate.user: cannot be less than 0, which is any number",
    written(rate="{ burst = 5 }"): HR + "rate.burst: has no effect without user, address or application",
    written(rate='{ user = 5, interval = "0s" }'): HR + "rate.interval: must be longer than nothing",
    written(identity_token="{ groups = true }"): (
        HR + "identity_token.header: is missing; say which header gets the token"
    ),
    written(identity_token='{ header = "AUTHORIZATION" }'): (
        HR + "identity_token.header: AUTHORIZATION is for programs' tokens already; choose another"
    ),
    written(
        identity_token='{ header = "x.user" }',
        sso='{ mode = "header", header = [{ name = "X-User", value = "user" }] }',
    ): HR + "identity_token.header: x.user is for sso.header already; choose another",
    written(identity_token='{ header = "X-Id", lifetime = "2h" }'): (
        HR + "identity_token.lifetime: must be more than nothing and at most 1h"
    ),
    written() + written(): HR + 'id: there are two applications "hr"; ids are unique',
    written() + written(id='"pay"', external_url='"https://HR.example.com:443"'): (
        "apps.toml: application[pay].external_url: https://hr.example.com/ belongs to application hr; "
        "one URL, one application"
    ),
    written(extrenal_url='"x"'): HR + 'extrenal_url: unknown key; did you mean "external_url"?',
    written(external_url='"http://hr.example.com/"'): (
        HR + "external_url: must be https; http is for pass-through applications only"
    ),
    written(external_url='"https://hr.example.com/a%2Fb\\\\"'): (
        HR + "external_url: 'https://hr.example.com/a%2Fb\\\\' has a space, control character or backslash"
    ),
    written(external_url='"https://hr.example.com/?x"'): (
        HR + "external_url: 'https://hr.example.com/?x' has a query, fragment or user; leave it out"
    ),
    written(internal_url='"ftp://hr.corp.local/"'): (
        HR + "internal_url: 'ftp://hr.corp.local/' is not an http or https address; write https://host/path/"
    ),
    written(internal_url='"http://u:p@hr.corp.local/"'): (
        HR + "internal_url: 'http://u:p@hr.corp.local/' has a query, fragment or user; leave it out"
    ),
    written(internal_url='"https://*.corp.local/"'): (
        HR + "internal_url: https://*.corp.local/ is a wildcard, but external_url is not"
    ),
    written(external_url='"https://*.10.0.0.1/"'): (
        HR + "external_url: 'https://*.10.0.0.1/' has a wildcard before an address"
    ),
    written(connector_group='["hq", "dr"]'): (
        HR + "connector_group: fail-over groups are not available in this release; name one"
    ),
    written(preauthentication='"saml"'): HR + "preauthentication: 'saml' is not one of \"oidc\", \"passthrough\"",
    written(sso__mode='"form"'): HR + 'sso.mode: "form" is not available in this release; use none, header or kerberos',
    written(sso__mode='"heeder"'): HR + 'sso.mode: \'heeder\' is not one of "none", "header", "kerberos"',
    written(sso__spn='"HTTP/hr"'): HR + 'sso.spn: has an effect with mode = "kerberos" only',
    written(sso__mode='"header"'): HR + "sso.header: is missing; say which header gets what",
    header("X Remote", "user"): HR + "sso.header[0].name: 'X Remote' is not the name of a header",
    header("Content_Length", "user"): HR + f"sso.header[0].name: Content_Length {_RESERVED}",
    header("X-Forwarded-For", "user"): HR + f"sso.header[0].name: X-Forwarded-For {_RESERVED}",
    header("Cookie", "user"): HR + f"sso.header[0].name: Cookie {_RESERVED}",
    header("X-User", "email"): HR + f"sso.header[0].value: 'email' is not a source; {_SOURCES}",
    header("X-User", "claim:"): HR + f"sso.header[0].value: 'claim' is not a source; {_SOURCES}",
    header("X-User", "lowr(user)"): (
        HR + "sso.header[0].value: 'lowr' is not a function; did you mean 'lower'?"
    ),
    header("X-User", "const:a\\nX-Admin: 1"): HR + "sso.header[0].value: has control characters, or space at an end",
    header("X-User", "user").replace("[{", '[{ name = "x_user", value = "groups" }, {'): (
        HR + "sso.header[1].name: X-User is set twice; origins take - _ and . for the same"
    ),
    written(preauthentication='"passthrough"', assigned='{ users = ["alice"] }'): (
        HR + "assigned: has no effect with passthrough, which knows no users; remove it"
    ),
    written(preauthentication='"passthrough"', provider='"corp"'): (
        HR + "provider: has no effect with passthrough, which signs nobody in; remove it"
    ),
    header("X-User", "user") + 'preauthentication = "passthrough"': (
        HR + 'sso.header: can only be "const:…" with passthrough, which knows no users'
    ),
    written(client_fields='["X-Remote-User", "x_forwarded_user"]'): (
        HR + "client_fields[1]: x_forwarded_user is the relay's to set"
    ),
    written(client_fields='["X-Api-Key"]'): HR + "client_fields[0]: X-Api-Key is passed on anyway; remove it",
    written(home_page='"https://evil.example/"'): (
        HR + "home_page: 'https://evil.example/' is not below the external URL; write for instance \"start/\""
    ),
    written(home_page='"a/%2e%2e/%2e%2e/x"'): (
        HR + "home_page: 'a/%2e%2e/%2e%2e/x' is not below the external URL; write for instance \"start/\""
    ),
    written(timeouts__connect='"0s"'): HR + "timeouts.connect: must be longer than nothing",
    written(timeouts__connect="10"): HR + 'timeouts.connect: 10 is not a duration; write "30s", "5m", "12h" or "30d"',
    written(session__idle='"2d"'): HR + "session.idle: 2d is longer than session.absolute, 1d",
    written(cookies__secure="false"): HR + "cookies.secure: must be true; the relay's cookies are sent over https only",
    written(cookies__partitioned="true"): HR + 'cookies.partitioned: has an effect with same_site = "none" only',
    written(external_url=""): HR + "external_url: is missing",
    written(internal_url=""): HR + "internal_url: is missing",
    written(external_url="", internal_url=""): HR + "external_url: is missing",
    written(external_url="", segment="[]"): HR + "external_url: is missing",
    written(external_url="", internal_url="", segment="[]", home_page='"start/"'): (
        HR + "home_page: has no effect without an external URL; remove it"
    ),
    written(segment="[{}]"): HR + "segment[0].external_url: is missing",
    segment(external_url='"http://hr.example.com/"'): (
        HR + "segment[0].external_url: must be https; http is for pass-through applications only"
    ),
    segment(external_url='"https://hr.example.com"'): (
        HR + "segment[0].external_url: https://hr.example.com/ belongs to external_url; one URL, one application"
    ),
    segment(internal_url='"http://169.254.169.254/"'): (
        HR + "segment[0].internal_url: 169.254.169.254 is link-local, multicast, unspecified or for metadata, "
        "and never published"
    ),
    segment(internal_url='"http://*.corp.local/"'): (
        HR + "segment[0].internal_url: http://*.corp.local/ is a wildcard, but external_url is not"
    ),
    segment() + written(id='"pay"', external_url='"https://files.example.com/"'): (
        "apps.toml: application[pay].external_url: https://files.example.com/ belongs to application hr; "
        "one URL, one application"
    ),
    segment() + written(id='"a"', external_url='"https://a.example/"', alternate_url='"https://files.example.com/"'): (
        "apps.toml: application[a].alternate_url: https://files.example.com/ belongs to application hr; "
        "one URL, one application"
    ),
    segment(cors="{}"): HR + "segment[0].cors.allowed_origins: is missing",
    segment(cors="{ allowed_origins = [] }"): (
        HR + "segment[0].cors.allowed_origins: is empty; name origins, or leave the table out"
    ),
    segment(cors='{ allowed_origins = ["https://a.example/x"] }'): (
        HR + "segment[0].cors.allowed_origins[0]: 'https://a.example/x' has a path; write only scheme, host and port"
    ),
    segment(cors='{ allowed_origins = ["*"], allow_credentials = true }'): (
        HR + 'segment[0].cors.allow_credentials: cannot be true for the origin "*", which is every site there is; '
        "name the origins"
    ),
    segment(cors='{ allowed_origins = ["*"], allowed_headers = ["a b"] }'): (
        HR + "segment[0].cors.allowed_headers[0]: 'a b' is not a name"
    ),
    written(alternate_url='"https://hr.example.org/hr/"'): (
        HR + "alternate_url: https://hr.example.org/hr/ has another path than https://hr.example.com/; "
        "links within pages could mean either"
    ),
    written(alternate_url='"https://*.example.com/"'): (
        HR + "alternate_url: 'https://*.example.com/' is a wildcard; name one host"
    ),
    written(alternate_url='"http://global.example.com/"'): (
        HR + "alternate_url: must be https; http is for pass-through applications only"
    ),
    written(alternate_url='"https://hr.example.com/"'): (
        HR + "alternate_url: https://hr.example.com/ belongs to external_url; one URL, one application"
    ),
    written(alternate_url='"https://hr.example.org/"', external_url='"https://*.example.com/"'): (
        HR + "alternate_url: has no meaning for a wildcard, https://*.example.com/; remove it"
    ),
    written(alternate_url='"https://hr.example.org/"', external_url="", internal_url="", segment="[]"): (
        HR + "alternate_url: needs an external_url that it is the alternate of"
    ),
    written(translate__alternate_url="true"): HR + "translate.alternate_url: has an effect with an alternate_url only",
    written(timeouts__first_byte='"longer"'): (
        HR + "timeouts.first_byte: 'longer' is not a duration; write \"30s\", \"5m\", \"12h\" or \"30d\""
    ),
    written(rule='[{ paths = ["/admin/"] }]'): (
        HR + "rule[0]: does nothing; give it allow, deny, sign_in, max_authentication_age, acr or amr"
    ),
    written(rule="[{ allow = {} }]"): (
        HR + "rule[0].allow: names nobody; give users, groups, claims or everyone = true"
    ),
    written(rule="[{ deny = { claims = { a = [] } } }]"): (
        HR + "rule[0].deny.claims.a: has no values; list those that count"
    ),
    written(rule='[{ paths = ["/a/../b"], deny = { everyone = true } }]'): (
        HR + "rule[0].paths[0]: '/a/../b' is not a canonical path; write for instance \"/admin/\""
    ),
    written(rule='[{ methods = ["GET /"], deny = { everyone = true } }]'): (
        HR + "rule[0].methods[0]: 'GET /' is not a method"
    ),
    written(rule='[{ networks = ["10.0.0.1/8"], deny = { everyone = true } }]'): (
        HR + "rule[0].networks[0]: 10.0.0.1/8 has host bits set; write for instance 10.0.0.0/8"
    ),
    written(rule='[{ times = ["monday"], deny = { everyone = true } }]'): (
        HR + "rule[0].times[0]: 'monday' is no time of the week; write for instance mon-fri 08:00-18:00"
    ),
    written(rule='[{ time_zone = "Moon/Base", deny = { everyone = true } }]'): (
        HR + "rule[0].time_zone: 'Moon/Base' is not known here; write for instance Europe/Berlin"
    ),
    written(rule='[{ name = "a", acr = ["x"] }, { name = "a", acr = ["x"] }]'): (
        HR + 'rule[1].name: there are two rules "a"; names tell them apart in logs'
    ),
    written(rule='[{ sign_in = "public" }]'): (
        HR + "rule[0].paths: is missing; say what is open to people who have not signed in"
    ),
    written(rule='[{ paths = ["/a/"], sign_in = "public", allow = { everyone = true } }]'): (
        HR + 'rule[0].sign_in: "public" asks nobody who they are; allow and deny go with "optional"'
    ),
    written(rule='[{ paths = ["/a/"], sign_in = "optional", acr = ["x"] }]'): (
        HR + 'rule[0].sign_in: "optional" asks for no certain kind of sign-in; use two rules'
    ),
    written(rule='[{ acr = ["x"] }]', preauthentication='"passthrough"'): (
        HR + "rule[0]: has no effect with passthrough, which knows no users; remove it"
    ),
    '[[connector_group]]\nname = "hq"\n[[connector_group]]\nname = "hq"': (
        'apps.toml: connector_group[1].name: there are two groups "hq"; names are unique'
    ),
    "[[connector_group]]": "apps.toml: connector_group[0].name: is missing",
}  # fmt: skip


@pytest.mark.feature("PUB-1")
class TestReading(Written):
    """Reading an apply file."""

    def read(self, text: str) -> ApplyFile:
        """Read a file that is *text*."""
        return read_apply(self.write("apps.toml", text))

    def test_every_mistake_is_one_line(self) -> None:
        """Each mistake is told with the file, the application, the key and what to do."""
        for text, said in MISTAKES.items():
            self.assertEqual(self.problem(lambda text=text: self.read(text)), said, text)  # type: ignore[misc]

    @pytest.mark.feature("PUB-2", "PUB-3", "PUB-4")
    def test_addresses_are_canonical(self) -> None:
        """One way to write each address: lower case, no default port, a slash at the end."""
        external, internal = '"https://*.Apps.Example.com:443"', '"HTTPS://*.corp.local:8443/Base"'
        (application,) = self.read(written(external_url=external, internal_url=internal)).applications
        self.assertEqual(application.external_url, "https://*.apps.example.com/")
        self.assertEqual(application.internal_url, "https://*.corp.local:8443/Base/")

    def test_link_local_origins_are_refused(self) -> None:
        """M04: addresses of cloud metadata services, unspecified and multicast ones are never published."""
        for host in ("169.254.169.254", "0.0.0.0", "224.0.0.1", "[fe80::1]", "[::]", "[::ffff:169.254.169.254]"):
            problem = self.problem(lambda host=host: self.read(written(internal_url=f'"http://{host}/"')))  # type: ignore[misc]
            self.assertIn("is link-local, multicast, unspecified or for metadata, and never published", problem)

    def test_odd_spellings_of_addresses_are_no_way_round(self) -> None:
        """M04: an address in decimal, octal or hexadecimal is not an origin."""
        for host in ("2852039166", "0251.0376.0251.0376", "0xa9fea9fe", "169.254.43518"):
            problem = self.problem(lambda host=host: self.read(written(internal_url=f'"http://{host}/"')))  # type: ignore[misc]
            self.assertIn("has no valid host", problem)

    def test_one_host_may_carry_several_applications(self) -> None:
        """Applications below each other are fine, so is a host that a wildcard covers."""
        text = (
            written()
            + written(id='"admin"', external_url='"https://hr.example.com/admin"')
            + written(id='"all"', external_url='"https://*.example.com"')
        )
        self.assertEqual([each.id for each in self.read(text).applications], ["hr", "admin", "all"])

    def test_a_list_of_one_group(self) -> None:
        """A connector group may be written as a list of one."""
        (application,) = self.read(written(connector_group='["hq"]')).applications
        self.assertEqual(application.connector_group, "hq")

    def test_what_asks_for_nothing(self) -> None:
        """Empty tables are accepted."""
        self.read(written(rule="[]", api="{}", rate="{}", identity_token="{}"))

    @pytest.mark.feature("PUB-5")
    def test_segments(self) -> None:
        """Each segment has canonical addresses, and rules or none; the application's own pair comes first."""
        rules = '{ allowed_origins = ["https://WWW.example.com:443", "https://*.example.org", "*"], max_age = "1h" }'
        (application,) = self.read(segment(external_url='"https://Files.example.com:8443/a"', cors=rules)).applications
        first, second = application.segments
        self.assertEqual((first.external_url, first.cors), ("https://hr.example.com/", None))
        self.assertEqual(second.external_url, "https://files.example.com:8443/a/")
        assert second.cors is not None
        self.assertEqual(second.cors.allowed_origins, ("https://www.example.com", "https://*.example.org", "*"))
        self.assertEqual(second.cors.max_age, 3600)

    @pytest.mark.feature("PUB-5")
    def test_segments_alone(self) -> None:
        """Segments may take the place of the two URLs; an empty list publishes nothing."""
        text = segment().replace('external_url = "https://hr.example.com/"\n', "")
        (application,) = self.read(text.replace('internal_url = "http://hr.corp.local:8080/"\n', "")).applications
        self.assertEqual([each.external_url for each in application.segments], ["https://files.example.com/"])
        (application,) = self.read(written(external_url="", internal_url="", segment="[]")).applications
        self.assertEqual(application.segments, ())

    @pytest.mark.feature("PUB-6")
    def test_alternate_url(self) -> None:
        """An alternate URL is canonical too."""
        (application,) = self.read(
            written(alternate_url='"https://HR.example.org"', translate__alternate_url="true")
        ).applications
        self.assertEqual(application.alternate_url, "https://hr.example.org/")

    def test_a_long_wait(self) -> None:
        """An origin may be given the long time by a word, and no limits at all where none are needed."""
        (application,) = self.read(written(timeouts__first_byte='"long"', timeouts__total='"0s"')).applications
        self.assertEqual((application.timeouts.first_byte, application.timeouts.total), (180, 0))
        self.assertEqual(from_document(to_document(application), Application), application)

    def test_a_document_that_came_as_json(self) -> None:
        """The same checks hold for a document that is no file."""
        said = "apply: application: is written [[application]], with two brackets"
        self.assertEqual(self.problem(lambda: parse_apply({"application": 1}, "apply")), said)
        self.assertEqual(
            parse_apply({"connector_group": [{"name": "hq"}]}, "apply").groups, (ConnectorGroup(name="hq"),)
        )


class TestPublishing(Written):
    """What only the relay that publishes can check."""

    def application(self, **changes: str) -> Application:
        """An application with *changes*."""
        (application,) = read_apply(self.write("apps.toml", written(**changes))).applications
        return application

    def test_group_has_to_exist(self) -> None:
        """An application names a group of the file or the store."""
        check_groups([self.application()], {"hq"})
        said = 'application[hr].connector_group: there is no connector group "hq"; add a [[connector_group]]'
        self.assertEqual(self.problem(lambda: check_groups([self.application()], {"dr"})), said)

    def test_provider_has_to_exist(self) -> None:
        """The one provider need not be named; one of several has to be, and to exist."""
        check_publishing([self.application()], ["corp"])
        check_publishing([self.application(preauthentication='"passthrough"')], [])
        check_publishing([self.application(provider='"b"')], ["a", "b"])
        for application, providers, said in (
            (self.application(provider='"c"'), ["a", "b"], 'there is no provider "c"; known: a, b'),
            (self.application(), ["a", "b"], "is needed, there are several providers"),
            (self.application(), [], "the relay has no provider to sign in with"),
        ):
            problem = self.problem(lambda a=application, p=providers: check_publishing([a], p))  # type: ignore[misc]
            self.assertEqual(problem, f"application[hr].provider: {said}")

    def test_own_host_is_the_relays(self) -> None:
        """No application takes the relay's own host, not by a wildcard either."""
        check_publishing([self.application()], ["corp"], "proxy.example.com")
        for url in ("https://proxy.example.com/x", "https://*.example.com/"):
            application = self.application(external_url=f'"{url}"')
            problem = self.problem(lambda a=application: check_publishing([a], ["corp"], "proxy.example.com"))  # type: ignore[misc]
            self.assertEqual(
                problem, "application[hr].external_url: proxy.example.com is the relay's own host; choose another"
            )

    def test_overlap(self) -> None:
        """N22: two applications never have one external URL."""
        other = self.application(id='"pay"')
        said = (
            "application[pay].external_url: https://hr.example.com/ belongs to application hr; one URL, one application"
        )
        self.assertEqual(self.problem(lambda: check_overlap([self.application(), other])), said)
