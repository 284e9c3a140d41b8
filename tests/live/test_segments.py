"""One application with several addresses, ports and a wildcard; relay, connector and origins are real processes."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from tests.live.clients import FETCHES, NAVIGATES, Browser, Raw
from tests.live.origin import OriginControl
from tests.live.programs import BIN, Program, free_ports, listens, until
from tests.live.stack import IMPORTABLE, Stack

pytestmark = pytest.mark.live

APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "bi"
external_url = "https://bi.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
preauthentication = "passthrough"
alternate_url = "https://global.localhost:PORT/"
[[application.segment]]
external_url = "https://bi.localhost:FURTHER/"
internal_url = "http://localhost:ENGINE/engine/"
[application.segment.cors]
allowed_origins = ["https://bi.localhost:PORT"]
allowed_methods = ["PUT"]
[[application.segment]]
external_url = "https://*.bi.localhost:PORT/"
internal_url = "http://*.corp.localhost:ENGINE/"
"""


class Segments(Stack):
    """A relay with two ports for clients, and two origins."""

    def __init__(self, *arguments: object, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        self.further_ports = tuple(free_ports(1))
        (self.engine_port,) = free_ports(1)
        self.engine = OriginControl(self.engine_port)

    def start_engine(self) -> None:
        """Start the second origin."""
        arguments = [BIN / "python", "-m", "tests.live.origin", str(self.engine_port)]
        program = self.add(Program("engine", arguments, self.folder, IMPORTABLE))
        program.wait_for(lambda: listens(self.engine_port), "the second origin listens")

    def apply(self, text: str) -> str:
        """Apply a file, with the further ports filled in too."""
        return super().apply(
            text.replace("FURTHER", str(self.further_ports[0])).replace("ENGINE", str(self.engine_port))
        )


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Segments]:
    """Everything, started once for this module."""
    with Segments(tmp_path_factory.mktemp("segments")) as stack:
        stack.start_engine()
        stack.start(APPLICATIONS)
        yield stack


@pytest.fixture
def browser(stack: Segments) -> Browser:
    """A browser that has been nowhere yet."""
    return stack.browser()


def heard(origin: OriginControl) -> list[tuple[str, str]]:
    """Host and target of what came to an origin since the last time."""
    return [(dict(each["fields"])["Host"], each["target"]) for each in origin.requests()]


@pytest.mark.feature("PUB-4", "PUB-5", "SCN-9")
def test_each_address_has_its_origin(stack: Segments, browser: Browser) -> None:
    """Two ports of one host and any host of a wildcard lead to the origins that they say, with the paths they say."""
    further, engine = stack.further_ports[0], stack.engine_port
    heard(stack.origin)
    heard(stack.engine)
    for url in (
        stack.address("bi", "/hub%2Fx?y"),
        stack.address("global", "/hub"),
        f"https://bi.localhost:{further}/app/a",
        stack.address("one.bi", "/1"),
        stack.address("two.three.bi", "/23"),
    ):
        assert browser.ask(url, fields=NAVIGATES).status == 200, url
    assert heard(stack.origin) == [(f"127.0.0.1:{stack.origin_port}", target) for target in ("/hub%2Fx?y", "/hub")]
    assert heard(stack.engine) == [
        (f"localhost:{engine}", "/engine/app/a"),
        (f"one.corp.localhost:{engine}", "/1"),
        (f"two.three.corp.localhost:{engine}", "/23"),
    ]


@pytest.mark.feature("PUB-5")
def test_rules_for_scripts(stack: Segments, browser: Browser) -> None:
    """A06: a preflight is answered by the relay where there are rules, and by the origin where there are none."""
    heard(stack.engine)
    fields = FETCHES | {"Origin": stack.address("bi", ""), "Access-Control-Request-Method": "PUT"}
    answer = browser.ask(f"https://bi.localhost:{stack.further_ports[0]}/app", method="OPTIONS", fields=fields)
    assert (answer.status, answer.value("Access-Control-Allow-Methods")) == (204, "PUT")
    assert heard(stack.engine) == []
    answer = browser.ask(stack.address("one.bi"), method="OPTIONS", fields=fields)
    assert (answer.status, answer.value("Access-Control-Allow-Methods")) == (200, "")
    assert len(heard(stack.engine)) == 1


@pytest.mark.feature("PUB-7", "PUB-10")
def test_changes_break_nothing(stack: Segments) -> None:
    """R15: an answer that has begun ends whole while its segment goes and maintenance comes; new ones hear of it."""

    def status(application: str) -> int:
        return stack.browser().ask(stack.address(application), fields=FETCHES).status

    def gone() -> bool:
        try:
            return status("one.bi") == 404
        except ssl.SSLCertVerificationError:
            return True  # nor is there a certificate for it

    host = f"one.bi.localhost:{stack.clients_port}"
    with Raw(stack.clients_port, stack.tls(), "one.bi.localhost") as running:
        running.send(f"GET /begun/gate HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        running.until(b"begun ")
        stack.apply(APPLICATIONS.partition('[[application.segment]]\nexternal_url = "https://*')[0])
        until("the wildcard is gone", gone)
        stack.command("app", "maintenance", "bi")
        until("maintenance has begun", lambda: status("bi") == 503)
        refused = stack.browser().ask(stack.address("bi"), fields=NAVIGATES)
        assert "being worked on" in refused.text
        assert refused.value("Retry-After") == "600"
        assert stack.browser().ask(stack.address("bi"), fields=FETCHES).json()["code"] == "maintenance"
        stack.engine.open("gate")
        running.until(b"ended\r\n0\r\n\r\n")
    stack.command("app", "maintenance", "bi", "--off")
    until("it is over", lambda: status("bi") == 200)
