"""A claims-aware application: signs people in by itself, with SAML 2.0 (python3-saml) or WS-Federation.

``python -m tests.live.claims SETTINGS`` (a JSON file, :class:`Settings`).  Below *mount*: ``/saml/metadata``,
``/saml/acs``, ``/saml/logout``, ``/saml/sls``; ``/federation`` takes tokens of WS-Federation; any other path is a page
for people who have signed in, by WS-Federation below ``/federated``.  ``/control/requests`` tells the test what came.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import xmlsec
from aiohttp import ClientSession, web
from lxml import etree
from onelogin.saml2.auth import OneLogin_Saml2_Auth
from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser
from onelogin.saml2.settings import OneLogin_Saml2_Settings

REALM = "urn:claims"
COOKIE = "claims"
_REDIRECT = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
_POST = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
_SAML1 = "{urn:oasis:names:tc:SAML:1.0:assertion}"
_DSIG = "{http://www.w3.org/2000/09/xmldsig#}"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What its administrator sets.

    :ivar mount: the path that it is at, without a slash at the end.
    :ivar address: the address that its users know, without a slash at the end; empty: as each request says.
    :ivar provider: where SimpleSAMLphp is, without a slash at the end.
    :ivar key: its own key, PEM.
    :ivar certificate: of that key.
    :ivar provider_certificate: the file of the provider's.
    """

    port: int
    mount: str
    address: str
    provider: str
    key: str
    certificate: str
    provider_certificate: str


class Claims:
    """The application."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen: list[dict[str, str]] = []
        #: By cookie; of people who are on their way to the provider, too.
        self._sessions: dict[str, dict[str, Any]] = {}
        #: What its metadata says, once it was asked for.
        self._provider: dict[str, Any] = {}

    def application(self) -> web.Application:
        """What aiohttp serves."""
        application = web.Application(middlewares=[self._note])
        mount = self._settings.mount
        application.router.add_get("/control/requests", self._tell)
        application.router.add_get(f"{mount}/saml/metadata", self._describe)
        application.router.add_post(f"{mount}/saml/acs", self._consume)
        application.router.add_get(f"{mount}/saml/logout", self._log_out)
        application.router.add_get(f"{mount}/saml/sls", self._log_out_too)
        application.router.add_post(f"{mount}/federation", self._consume_federated)
        application.router.add_get(f"{mount}/{{path:(?!saml/|federation$|favicon).*}}", self._show)
        return application

    @web.middleware
    async def _note(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        if not request.path.startswith("/control/"):
            path = request.path.removeprefix(self._settings.mount)
            self._seen.append({"method": request.method, "path": path, "origin": request.headers.get("Origin", "")})
        return await handler(request)

    async def _tell(self, _: web.Request) -> web.Response:
        seen, self._seen = self._seen, []
        return web.json_response(seen)

    # What an application knows of itself

    def _here(self, request: web.Request) -> str:
        """Its own address as requests say it, by the word of the proxy before it."""
        scheme = request.headers.get("X-Forwarded-Proto", "http") if not self._settings.address else "http"
        return f"{scheme}://{request.host}{self._settings.mount}"

    def _known_as(self, request: web.Request) -> str:
        """Its address in what it tells the provider."""
        return self._settings.address or self._here(request)

    async def _saml(self, request: web.Request) -> OneLogin_Saml2_Auth:
        if not self._provider:
            async with (
                ClientSession() as client,
                client.get(f"{self._settings.provider}/saml2/idp/metadata.php") as answer,
            ):
                self._provider = OneLogin_Saml2_IdPMetadataParser.parse(await answer.text())["idp"]
        base = self._known_as(request)
        scheme, _, rest = base.partition("://")
        host, slash, path = rest.partition("/")
        asked = {
            "https": "on" if scheme == "https" else "off",
            "http_host": host,
            "script_name": slash + path + request.path.removeprefix(self._settings.mount),
            "get_data": dict(request.query),
            "post_data": dict(await request.post()),
            # Signatures are over the query as it was sent.
            "query_string": request.rel_url.raw_query_string,
            "validate_signature_from_qs": True,
        }
        return OneLogin_Saml2_Auth(asked, self._saml_settings(request))

    def _saml_settings(self, request: web.Request) -> dict[str, Any]:
        base = self._known_as(request)
        return {
            "strict": True,
            "sp": {
                "entityId": f"{base}/saml/metadata",
                "assertionConsumerService": {"url": f"{base}/saml/acs", "binding": _POST},
                "singleLogoutService": {"url": f"{base}/saml/sls", "binding": _REDIRECT},
                "x509cert": self._settings.certificate,
                "privateKey": self._settings.key,
            },
            "idp": dict(self._provider),
            "security": {
                "authnRequestsSigned": True,
                "logoutRequestSigned": True,
                "logoutResponseSigned": True,
                "wantMessagesSigned": True,
                "wantAssertionsSigned": True,
                # An answer is for the browser that asked, which has the cookie that says so.
                "rejectUnsolicitedResponsesWithInResponseTo": True,
            },
        }

    async def _describe(self, request: web.Request) -> web.Response:
        settings = OneLogin_Saml2_Settings(self._saml_settings(request), sp_validation_only=True)
        return web.Response(body=settings.get_sp_metadata(), content_type="application/samlmetadata+xml")

    # Signing in and out

    def _session(self, request: web.Request) -> dict[str, Any]:
        return self._sessions.get(request.cookies.get(COOKIE, ""), {})

    def _begin(self, answer: web.Response, session: dict[str, Any]) -> web.Response:
        """A new session; its cookie is what most frameworks set, with nothing said of other sites."""
        id = secrets.token_urlsafe()
        self._sessions[id] = session
        answer.set_cookie(COOKIE, id, path=f"{self._settings.mount}/", httponly=True)
        return answer

    async def _show(self, request: web.Request) -> web.Response:
        mount, session = self._settings.mount, self._session(request)
        here = f"{self._here(request)}{request.raw_path.removeprefix(mount)}"
        if request.match_info["path"] == "signed-out":
            return page("Signed out of Claims")
        if "name" in session:
            groups = session["groups"]
            more = f'<p id="groups">{len(groups)}: {escape(groups[-1])}</p><p id="here">{escape(here)}</p>'
            return page(f"Hello {session['name']}", more + f'<a href="{mount}/saml/logout">Sign out</a>')
        if request.match_info["path"].startswith("federated"):
            query = urlencode({"wa": "wsignin1.0", "wtrealm": REALM, "wctx": here})
            return self._begin(moved(f"{self._settings.provider}/module.php/adfs/idp/prp.php?{query}"), {})
        saml = await self._saml(request)
        address = saml.login(return_to=here)
        return self._begin(moved(address), {"request": saml.get_last_request_id()})

    async def _consume(self, request: web.Request) -> web.Response:
        """The assertion consumer: an answer to a request of this browser's, or one that nobody asked for."""
        saml, session = await self._saml(request), self._session(request)
        saml.process_response(request_id=session.pop("request", None))
        if saml.get_errors():
            return page(f"Refused: {saml.get_last_error_reason()}", status=403)
        told = saml.get_attributes()
        known = {
            "name": told["uid"][0],
            "groups": told["groups"],
            "name_id": saml.get_nameid(),
            "name_id_format": saml.get_nameid_format(),
            "session_index": saml.get_session_index(),
        }
        return self._begin(moved(self._back(request, (await request.post()).get("RelayState"))), known)

    def _back(self, request: web.Request, wanted: object) -> str:
        """Where somebody goes on: at this application, wherever they say."""
        here = self._here(request)
        return wanted if isinstance(wanted, str) and wanted.startswith(f"{here}/") else f"{here}/"

    async def _log_out(self, request: web.Request) -> web.Response:
        session = self._session(request)
        saml = await self._saml(request)
        address = saml.logout(
            return_to=f"{self._here(request)}/signed-out",
            name_id=session.get("name_id"),
            name_id_format=session.get("name_id_format"),
            session_index=session.get("session_index"),
        )
        return moved(address)

    async def _log_out_too(self, request: web.Request) -> web.Response:
        """The provider asks for a logout, or has done what it was asked for."""
        saml = await self._saml(request)
        address = saml.process_slo(delete_session_cb=lambda: self._sessions.pop(request.cookies.get(COOKIE, ""), None))
        if saml.get_errors():
            return page(f"Refused: {saml.get_errors()} {saml.get_last_error_reason()}", status=403)
        return moved(address or self._back(request, request.query.get("RelayState")))

    async def _consume_federated(self, request: web.Request) -> web.Response:
        """A token of WS-Federation: a SAML 1.1 assertion in an answer of WS-Trust."""
        form = await request.post()
        parser = etree.XMLParser(resolve_entities=False)
        [assertion] = etree.fromstring(str(form["wresult"]).encode(), parser).iter(f"{_SAML1}Assertion")
        # Only what is verified is looked at.
        assertion = etree.fromstring(etree.tostring(assertion), parser)
        [reference] = assertion.iter(f"{_DSIG}Reference")
        assert reference.get("URI") == f"#{assertion.get('AssertionID')}"
        xmlsec.tree.add_ids(assertion, ["AssertionID"])
        verifying = xmlsec.SignatureContext()
        verifying.key = xmlsec.Key.from_file(self._settings.provider_certificate, xmlsec.constants.KeyDataFormatCertPem)
        verifying.verify(assertion.find(f"{_DSIG}Signature"))
        [conditions] = assertion.iter(f"{_SAML1}Conditions")
        assert datetime.fromisoformat(conditions.get("NotOnOrAfter")).timestamp() > time.time()
        assert [each.text for each in assertion.iter(f"{_SAML1}Audience")] == [REALM]
        told = {
            each.get("AttributeName"): [value.text for value in each] for each in assertion.iter(f"{_SAML1}Attribute")
        }
        known = {"name": told["uid"][0], "groups": told["groups"]}
        return self._begin(moved(self._back(request, form.get("wctx"))), known)


def moved(address: str) -> web.Response:
    """A redirect."""
    return web.Response(status=302, headers={"Location": address})


def page(title: str, more: str = "", status: int = 200) -> web.Response:
    """A page."""
    text = f"<!DOCTYPE html><title>Claims</title><h1>{escape(title)}</h1>{more}"
    return web.Response(text=text, status=status, content_type="text/html")


def main() -> None:
    """Serve until killed."""
    settings = Settings(**json.loads(Path(sys.argv[1]).read_text()))
    web.run_app(Claims(settings).application(), host="127.0.0.1", port=settings.port, print=None)


if __name__ == "__main__":
    main()
