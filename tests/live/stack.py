"""A deployment with the tests' own origin and, where it is installed, the certified provider."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.live.clients import Browser
from tests.live.origin import OriginControl
from tests.live.programs import BIN, ROOT, Deployment, Program, free_ports, listens

NODE = Path(__file__).parent / "node"
CLIENT_SECRET = "a secret: with/odd+characters"
PROVIDER = """
[[provider]]
id = "certified"
issuer = "http://localhost:{port}"
client_id = "relay"
allow_http = true
{more}
"""
SECRET = 'client_secret_file = "client-secret"'

#: What is applied where one application for everybody is enough; others follow it.
OPEN = """
[[connector_group]]
name = "hq"
[[application]]
id = "open"
external_url = "https://open.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
preauthentication = "passthrough"
"""
#: The same where staff signs in and the origin is told who it is; more headers, or applications, may follow.
INTRANET = """
[[connector_group]]
name = "hq"
[[application]]
id = "intranet"
external_url = "https://intranet.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = { groups = ["staff"] }
[application.sso]
mode = "header"
[[application.sso.header]]
name = "X-Remote-User"
value = "user"
"""


class Stack(Deployment):
    """A relay, a connector, an origin; the provider when *signs_in*.

    :param provider_more: settings of the provider, the relay's proof of who it is among them.
    :param access_seconds: how long the provider's access tokens last.
    :param client_key: the relay's public key (JWK), where it has one instead of a secret.
    """

    def __init__(
        self,
        folder: Path,
        *,
        signs_in: bool = False,
        relay_more: str = "",
        connector_more: str = "",
        provider_more: str = SECRET,
        access_seconds: int = 3600,
        client_key: str = "",
    ) -> None:
        self.origin_port, self.provider_port = free_ports(2)
        self.origin = OriginControl(self.origin_port)
        self.provider: Program | None = None
        self._signs_in = signs_in
        if signs_in:
            relay_more = PROVIDER.format(port=self.provider_port, more=provider_more) + relay_more
        super().__init__(folder, relay_more=relay_more, connector_more=connector_more)
        self._provider_arguments = (str(self.authority), str(access_seconds), client_key)
        self.write("client-secret", CLIENT_SECRET + "\n")

    def start(self, applications: str) -> None:
        """Start everything and publish; *applications* says ``ORIGIN`` and ``PORT`` for origin and clients' port."""
        self.start_origin()
        if self._signs_in:
            self.start_provider()
        self.start_relay()
        self.apply(applications)
        self.start_connector()

    def apply(self, text: str) -> str:
        """Apply a file, with ``ORIGIN`` and ``PORT`` filled in."""
        origin = f"http://127.0.0.1:{self.origin_port}"
        return super().apply(text.replace("ORIGIN", origin).replace("PORT", str(self.clients_port)))

    def start_origin(self) -> Program:
        """Start the origin."""
        python = BIN / "python"
        program = Program("origin", [python, "-m", "tests.live.origin", str(self.origin_port)], self.folder, IMPORTABLE)
        program.wait_for(lambda: listens(self.origin_port), "the origin listens")
        return self.add(program)

    def start_provider(self) -> Program:
        """Start the provider, with new keys and nobody signed in; skips the test where there is none."""
        node = shutil.which("node")
        if node is None or not (NODE / "node_modules" / "oidc-provider").is_dir():
            pytest.skip("no node, or no oidc-provider in tests/live/node: npm install --no-package-lock")
        arguments = [node, NODE / "provider.mjs", str(self.provider_port), self.public_url, *self._provider_arguments]
        self.provider = self.add(Program("provider", arguments, self.folder))
        self.provider.wait_for(lambda: listens(self.provider_port), "the provider listens")
        return self.provider

    def address(self, application: str, path: str = "/") -> str:
        """The external URL of something at ``APPLICATION.localhost``."""
        return f"https://{application}.localhost:{self.clients_port}{path}"

    def browser(self) -> Browser:
        """A browser that has been nowhere yet."""
        return Browser(self.tls())


class Memory:
    """The most that processes held since this was made, beyond what they held then."""

    def __init__(self, **pids: int) -> None:
        self._pids = pids
        for pid in pids.values():
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins anew
        self._before = {name: self._read(pid, "VmRSS") for name, pid in pids.items()}

    @staticmethod
    def _read(pid: int, what: str) -> float:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))

    def growth(self) -> dict[str, float]:
        """In MiB, by name."""
        return {name: round(self._read(pid, "VmHWM") - self._before[name], 1) for name, pid in self._pids.items()}


#: Programs run in their own folder, and still find the tests.
IMPORTABLE = {"PYTHONPATH": str(ROOT)}
