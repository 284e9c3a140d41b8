"""What applications and connectors may say about Kerberos."""

from __future__ import annotations

from typing import Any

import pytest

from appproxy.applications import Application, Segment, SingleSignOn, from_document
from appproxy.config import ConnectorConfig, read_connector
from appproxy.config.kerberos import check_kerberos
from tests.config.files import Written

HR = "apps.toml: application[hr]."


def application(internal_url: str = "http://hr.corp.example/", **sso: Any) -> Application:
    """One with Kerberos."""
    keys = {"mode": "kerberos", **sso}
    return Application(
        id="hr",
        connector_group="hq",
        external_url="https://hr.example.com/",
        internal_url=internal_url,
        sso=SingleSignOn(**keys),
    )


@pytest.mark.feature("SSO-2", "SSO-3")
class ApplicationTests(Written):
    """In the apply file."""

    def said(self, wrong: Application) -> str:
        """What is said of it."""
        return self.problem(lambda: check_kerberos(wrong, "apps.toml: application[hr]")).removeprefix(HR)

    def test_mistakes(self) -> None:
        """Each is told with the key and what to do."""
        for sso, said in (
            ({"identity": "userprincipalname"}, "sso.identity: "),
            ({"identity": "const:alice"}, "sso.identity: would be the same for everybody; write userPrincipalName, "),
            ({"realm": "A@B"}, "sso.realm: 'A@B' is not the name of a realm"),
            ({"spn": "hr.corp.example"}, "sso.spn: 'hr.corp.example' is no service principal name; write for instance"),
            ({"spn": "HTTP/hr@A@B"}, "sso.spn: 'HTTP/hr@A@B' is no service principal name"),
            ({"spn": "HTTP/{user}"}, "sso.spn: 'HTTP/{user}' is no service principal name"),
            ({"mode": "none", "spn": "HTTP/hr"}, 'sso.spn: has an effect with mode = "kerberos" only'),
            ({"mode": "none", "preemptive": False}, 'sso.preemptive: has an effect with mode = "kerberos" only'),
        ):
            self.assertIn(said, self.said(application(**sso)))
        address = application("http://10.0.0.1/")
        self.assertIn("sso.spn: is needed: 10.0.0.1 is an address", self.said(address))
        self.assertIn(
            "segment[0].spn: 'x' is no service",
            self.said(
                Application(
                    id="hr",
                    connector_group="hq",
                    segment=(Segment(external_url="https://a/", internal_url="http://b/", spn="x"),),
                    sso=SingleSignOn(mode="kerberos"),
                )
            ),
        )

    def test_users_are_needed(self) -> None:
        """Who is not signed in has no ticket; connections are apart anyway."""
        for change, said in (
            ({"preauthentication": "passthrough"}, "passthrough signs nobody in"),
            ({"origin": {"pinned": True}}, "each user has connections of their own"),
        ):
            document = {
                "id": "hr", "connector_group": "hq", "external_url": "https://hr.example.com/",
                "internal_url": "http://hr.corp.example/", "sso": {"mode": "kerberos"}, **change,
            }  # fmt: skip

            self.assertIn(said, self.said(from_document(document, Application)))

    def test_what_may_be_written(self) -> None:
        """Templates, realms, fixed names, and expressions for who the user is."""
        for sso in (
            {}, {"spn": "HTTP/{host}"}, {"spn": "HTTP/{host}:{port}@OTHER.EXAMPLE"}, {"spn": "HTTP/hr:8080"},
            {"identity": "onPremisesSAMAccountName"}, {"identity": "claim:account"}, {"identity": "lower(claim:upn)"},
            {"realm": "OTHER.EXAMPLE"},
        ):  # fmt: skip
            check_kerberos(application(**sso), "x")


MINIMAL = '[connector]\nrelays = ["https://connect.example.com:8443"]\n[kerberos]\n'
PRINCIPAL = 'principal = "svc-connector@CORP.EXAMPLE"\n'
KEYTAB = 'keytab_file = "connector.toml"\n'

#: What is written, and what is said.
MISTAKES = {
    KEYTAB: "principal: is missing; keytab_file is for the account that it names",
    'principal = "svc"\n': "principal: 'svc' is no principal; write for instance \"svc-connector@CORP.EXAMPLE\"",
    'principal = "a/b/c@CORP"\n': "principal: 'a/b/c@CORP' is no principal",
    PRINCIPAL: "keytab_file: is missing; where are the keys?",
    PRINCIPAL + KEYTAB + 'ccache = "KCM:"\n': "keytab_file: and ccache: keep one of them",
    PRINCIPAL + 'keytab_file = "no.keytab"\n': "keytab_file: there is no file",
    PRINCIPAL + KEYTAB + 'krb5_config_file = "no.conf"\n': "krb5_config_file: there is no file",
    PRINCIPAL + KEYTAB + 'cache = "16m"\n': "cache: 16m is not between 1s and 15m",
    PRINCIPAL + KEYTAB + 'timeout = "2m"\n': "timeout: 2m is not between 1s and 60s",
}


@pytest.mark.feature("SSO-4")
class ConnectorTests(Written):
    """In connector.toml."""

    def read(self, text: str) -> ConnectorConfig:
        """Settings with this in ``[kerberos]``."""
        return read_connector(self.write("connector.toml", MINIMAL + text), {"HOME": "/home/c"})

    def test_mistakes(self) -> None:
        """Each is told with the key and what to do."""
        for text, said in MISTAKES.items():
            self.assertIn(f"kerberos.{said}", self.problem(lambda text=text: self.read(text)))  # type: ignore[misc]

    def test_what_may_be_written(self) -> None:
        """A keytab, or a cache that something else keeps fresh; or nothing at all."""
        kerberos = self.read(PRINCIPAL + KEYTAB).kerberos
        self.assertEqual((kerberos.realm, float(kerberos.cache), float(kerberos.timeout)), ("CORP.EXAMPLE", 900, 10))
        self.assertEqual(self.read(PRINCIPAL + 'ccache = "KCM:"\n').kerberos.ccache, "KCM:")
        self.assertEqual(self.read('principal = "HTTP/hq-1.corp.example@CORP"\nccache = "KCM:"').kerberos.realm, "CORP")
        self.assertEqual(self.read("").kerberos.principal, "")
