"""A whole deployment in a Kerberos realm: provider, relay, connector, KDC, and an origin that wants tickets."""

from __future__ import annotations

from pathlib import Path

from tests.live.clients import FETCHES, Answer, Browser
from tests.live.kdc import MANY, ORIGIN_SPN, Lab
from tests.live.programs import BIN, Deployment, Program, free_ports, listens

PASSWORD = "wonderland"
SESSION = "__Host-appproxy-session"
#: By name at the provider: claims.
USERS: dict[str, dict[str, str]] = {
    **{name: {} for name in MANY},
    "alice": {"upn": "alice@corp.example", "onpremisessamaccountname": "alice"},
    "bob": {"onpremisessamaccountname": "bob", "onpremisesuserprincipalname": "bob@corp.example"},
    "carol.smith@contoso.example": {"onpremisessamaccountname": "carol"},
    "sensitive": {},
    "disabled": {},
    "expired": {},
    "nobody-knows": {},
    "svc-connector": {},
    "a/b": {},
}
PROVIDER = """
[[provider]]
id = "development"
issuer = "http://localhost:{port}"
client_id = "relay"
client_secret = "a secret of no use elsewhere"
allow_http = true
"""
CLIENT = """
[[client]]
client_id = "relay"
client_secret = "a secret of no use elsewhere"
redirect_uris = ["{public_url}/.appproxy/callback"]
post_logout_redirect_uris = ["{public_url}/.appproxy/signed-out"]
"""
APPLICATION = """
[[application]]
id = "{id}"
external_url = "https://{id}.localhost:{port}/"
internal_url = "{origin}"
connector_group = "hq"
assigned = {{ everyone = true }}
{more}
"""


class Domain(Deployment):
    """Everything, with as many people as :data:`USERS` has."""

    def __init__(self, folder: Path, lab: Lab, *, connector_more: str = "", users: dict[str, dict[str, str]] = USERS):
        self.lab = lab
        (self.provider_port,) = free_ports(1)
        self._users = users
        provider = PROVIDER.format(port=self.provider_port)
        super().__init__(
            folder, relay_more=provider, connector_more=lab.connector_settings() + connector_more, patience=5.0
        )

    def start(self, applications: str) -> None:
        """Start everything but realm and origin."""
        people = "".join(
            f'[[user]]\nname = "{name}"\npassword = "{PASSWORD}"\n[user.claims]\n'
            + "".join(f'{claim} = "{value}"\n' for claim, value in claims.items())
            for name, claims in self._users.items()
        )
        self.write("users.toml", people + CLIENT.format(public_url=self.public_url))
        command = ["idp", "serve", "--users", "users.toml", "--port", str(self.provider_port), "--state-dir", "idp"]
        provider = self.add(Program("provider", [BIN / "appproxy", *command], self.folder))
        provider.wait_for(lambda: listens(self.provider_port), "the provider listens")
        self.start_relay()
        self.apply('[[connector_group]]\nname = "hq"\n' + applications)
        self.start_connector()

    def application(self, name: str = "intranet", more: str = "", **sso: object) -> str:
        """One application of the origin with Kerberos; *sso*: its keys, as TOML."""
        keys = {"mode": '"kerberos"', "spn": f'"{ORIGIN_SPN}"', "identity": '"userPrincipalUsername"', **sso}
        table = "[application.sso]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())
        origin = f"http://localhost:{self.lab.origin_port}/"
        return APPLICATION.format(id=name, port=self.clients_port, origin=origin, more=more + table)

    def address(self, application: str = "intranet", path: str = "/user.shtml") -> str:
        """Something at an application."""
        return f"https://{application}.localhost:{self.clients_port}{path}"

    def browser(self) -> Browser:
        """A browser that has been nowhere yet."""
        return Browser(self.tls())

    def signed_in(self, name: str, application: str = "intranet") -> tuple[Browser, Answer]:
        """Somebody who has just signed in, and the page that this ended with."""
        browser = self.browser()
        return browser, browser.sign_in(self.address(application), name, PASSWORD)

    def fetch(self, browser: Browser, application: str = "intranet", path: str = "/user.shtml") -> Answer:
        """Ask as a script does, at an application that the browser is signed in to."""
        if not browser.cookie(f"{application}.localhost", SESSION):
            browser.open(self.address(application))
        return browser.ask(self.address(application, path), fields=FETCHES)
