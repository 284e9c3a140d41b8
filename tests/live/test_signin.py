"""A whole sign-in with the certified provider: relay, connector, origin and provider are processes of their own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests.live.clients import FETCHES, NAVIGATES, Answer, Browser
from tests.live.programs import until
from tests.live.stack import INTRANET, Stack

pytestmark = pytest.mark.live

SESSION = "__Host-appproxy-session"
APPLICATIONS = (
    INTRANET
    + """[[application.sso.header]]
name = "X-Remote-Groups"
value = "groups"
[[application.sso.header]]
name = "X-Remote-Name"
value = "claim:name"
[[application]]
id = "reports"
external_url = "https://reports.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
assigned = { groups = ["finance"] }
[[application]]
id = "open"
external_url = "https://open.localhost:PORT/"
internal_url = "ORIGIN/"
connector_group = "hq"
preauthentication = "passthrough"
"""
)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("signin"), signs_in=True) as stack:
        stack.start(APPLICATIONS)
        yield stack


@pytest.fixture
def browser(stack: Stack) -> Browser:
    """A browser that has been nowhere yet."""
    return stack.browser()


def told(answer: Answer, name: str) -> list[str]:
    """What the origin was told in a field, by any spelling of its name."""
    assert answer.status == 200, (answer.url, answer.status, answer.text)
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    return [value for field, value in answer.json()["fields"] if re.sub(r"[^a-z0-9]", "", field.lower()) == plain]


def callback(stack: Stack) -> str:
    """Where the provider sends people back to."""
    return f"{stack.public_url}/.appproxy/callback"


def answer_of_provider(stack: Stack, browser: Browser, name: str = "alice", password: str = "wonderland") -> str:
    """Sign in at the provider; its redirect back, not followed."""
    sent = browser.sign_in(stack.address("intranet"), name, password, until=callback(stack))
    return sent.value("Location")


@pytest.mark.feature("AUTH-2", "AUTH-3", "AUTH-4", "SSO-6", "SSO-1")
def test_sign_in(stack: Stack, browser: Browser) -> None:
    """A01, S01, S23: through the provider and back to the very octets that were asked for, with a bound session."""
    stack.origin.requests()
    first = browser.ask(stack.address("intranet", "/a%2Fb?q=%26&x=%7e"))
    assert first.status == 302
    assert first.value("Cache-Control") == "no-store"
    form = browser.follow(first)
    [authorize] = [each.url for each in browser.trail if "/auth?" in each.url]
    asked = {name: values[0] for name, values in parse_qs(urlsplit(authorize).query).items()}
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) == 43
    assert stack.origin.requests() == []
    page = browser.submit(form, username="alice", password="wonderland")
    assert page.json()["target"] == "/a%2Fb?q=%26&x=%7e"
    assert told(page, "X-Remote-User") == ["alice"]
    assert told(page, "X-Remote-Groups") == ["staff,finance"]
    assert told(page, "X-Remote-Name") == ["Alice Ahlers"]
    assert told(page, "Cookie") == []
    lines = [line for each in browser.trail for line in each.values("Set-Cookie")]
    set_cookies = {line.partition("=")[0]: line for line in lines if line.startswith("__Host-")}
    assert SESSION in set_cookies
    for line in set_cookies.values():
        attributes = {part.strip().lower() for part in line.split(";")[1:]}
        assert {"secure", "httponly", "samesite=lax", "path=/"} <= attributes, line
        assert not any(each.startswith("domain") for each in attributes), line
    for each in browser.trail:
        if ".appproxy" in each.url:
            assert each.value("Cache-Control") == "no-store", each.url
            assert each.value("Referrer-Policy") == "no-referrer", each.url


@pytest.mark.feature("AUTH-3")
def test_second_application(stack: Stack, browser: Browser) -> None:
    """Who is signed in gets into another application without being asked again, by a session of its own."""
    browser.sign_in(stack.address("intranet"), "alice", "wonderland")
    page = browser.open(stack.address("reports", "/q1"))
    assert (page.status, page.json()["target"]) == (200, "/q1")
    assert not any("/auth?" in each.url for each in browser.trail)
    ours, theirs = (browser.cookie(f"{name}.localhost", SESSION) for name in ("intranet", "reports"))
    assert ours
    assert theirs
    assert ours != theirs


@pytest.mark.feature("AUTH-4")
def test_session_of_another_host(stack: Stack, browser: Browser) -> None:
    """S04: a session is good at its own host only."""
    browser.sign_in(stack.address("intranet"), "alice", "wonderland")
    handle = browser.cookie("intranet.localhost", SESSION)
    stolen = stack.browser().ask(stack.address("reports"), fields={**NAVIGATES, "Cookie": f"{SESSION}={handle}"})
    assert stolen.status == 302


@pytest.mark.feature("SSO-6")
def test_spoofed_headers(stack: Stack, browser: Browser) -> None:
    """H01, H02, S07: whatever spelling a client sends, the origin hears of the session's user only."""
    browser.sign_in(stack.address("intranet"), "bob", "builder")
    spoofed = {
        "X-Remote-User": "root", "x_remote_user": "root", "X.Remote.User": "root", "X-Remote_User": "root",
        "X-REMOTE-GROUPS": "wheel", "X_Remote_Name": "Root",
        "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Host": "evil.example", "Forwarded": "for=1.2.3.4",
        "Connection": "close, X-Remote-User",
        "Cookie": f"a=b; {SESSION}={browser.cookie('intranet.localhost', SESSION)}; c=d",
    }  # fmt: skip
    page = browser.ask(stack.address("intranet"), fields={**NAVIGATES, **spoofed})
    assert told(page, "X-Remote-User") == ["bob"]
    assert told(page, "X-Remote-Groups") == ["staff"]
    assert told(page, "X-Remote-Name") == ["Bob Berger"]
    assert told(page, "X-Forwarded-For") == ["127.0.0.1"]
    assert told(page, "X-Forwarded-Host") == [f"intranet.localhost:{stack.clients_port}"]
    assert told(page, "Cookie") == ["a=b; c=d"]
    assert "root" not in page.text


@pytest.mark.feature("SSO-6")
def test_name_beyond_ascii(stack: Stack, browser: Browser) -> None:
    """H04: a claim beyond ASCII reaches the origin in UTF-8."""
    page = browser.sign_in(stack.address("intranet"), "carol", "carousel")
    assert [value.encode("latin-1").decode() for value in told(page, "X-Remote-Name")] == ["Carol Çelik"]


@pytest.mark.feature("POL-1")
def test_not_assigned(stack: Stack, browser: Browser) -> None:
    """A34: signed in but not assigned: a page with 403 or a problem document, and nothing reaches the origin."""
    page = browser.sign_in(stack.address("reports"), "bob", "builder")
    stack.origin.requests()
    assert page.status == 403
    assert "text/html" in page.value("Content-Type")
    assert "not assigned" in page.text
    program = browser.ask(stack.address("reports", "/x"), fields=FETCHES)
    assert (program.status, program.json()["code"]) == (403, "refused")
    assert stack.origin.requests() == []


@pytest.mark.feature("AUTH-8")
def test_programs_are_not_redirected(stack: Stack, browser: Browser) -> None:
    """A02, A05, A37, A38: without a session a script, an upgrade, a monitor or a bad token gets 401, and no cookie."""
    stack.origin.requests()
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    xhr = {"X-Requested-With": "XMLHttpRequest", "Accept": "text/html"}
    monitor, token = {"User-Agent": "GoogleHC/1.0"}, {**NAVIGATES, "Authorization": "Bearer x.y.z"}
    for fields in (FETCHES, xhr, upgrade, monitor, token):
        answer = browser.ask(stack.address("intranet", "/healthz"), fields=fields)
        assert answer.status == 401, fields
        assert answer.value("WWW-Authenticate").startswith('Bearer realm="intranet"')
        assert answer.values("Set-Cookie") == []
    assert answer.value("WWW-Authenticate").endswith('error="invalid_token"')
    assert stack.origin.requests() == []


@pytest.mark.feature("AUTH-2")
def test_state_of_another_browser(stack: Stack, browser: Browser) -> None:
    """A08: somebody else's answer of the provider signs nobody in, and is still good for its owner."""
    back = answer_of_provider(stack, browser)
    victim = stack.browser()
    refused = victim.ask(back)
    assert refused.status == 400
    assert "another browser" in refused.text
    assert not any(SESSION in line for line in refused.values("Set-Cookie"))
    assert browser.open(back).status == 200


@pytest.mark.feature("AUTH-2")
def test_state_twice(stack: Stack, browser: Browser) -> None:
    """A09: a state is good once, whoever kept its cookie."""
    back = answer_of_provider(stack, browser)
    kept = dict(browser.jars["proxy.localhost"])
    assert browser.open(back).status == 200
    browser.jars["proxy.localhost"] = kept
    again = browser.ask(back)
    assert again.status == 400
    assert not any(SESSION in line for line in again.values("Set-Cookie"))


@pytest.mark.feature("AUTH-2", "AUTH-13")
def test_state_unknown(stack: Stack, browser: Browser) -> None:
    """A07: a made-up state is refused, and the provider is asked nothing."""
    refused = browser.ask(f"{callback(stack)}?{urlencode({'code': 'x', 'state': 'zzz'})}")
    assert refused.status == 400
    assert refused.values("Set-Cookie") == []
    assert "frame-ancestors 'none'" in refused.value("Content-Security-Policy")


@pytest.mark.feature("AUTH-2", "HTTP-8")
def test_provider_declines(stack: Stack, browser: Browser) -> None:
    """A13: what the provider says of a refusal is shown to nobody."""
    form = browser.open(stack.address("intranet"))
    page = browser.submit(form, cancel="yes")
    assert page.status == 403
    assert "not signed in" in page.text
    assert "script" not in page.text
    assert "access_denied" not in page.text
    link = re.search(r'class="button" href="([^"]+)"', page.text)
    assert link is not None
    assert 'name="password"' in browser.open(link[1]).text


@pytest.mark.feature("AUTH-2")
def test_code_of_another_issuer(stack: Stack, browser: Browser) -> None:
    """A14: an answer that another issuer claims to have given is refused."""
    back = answer_of_provider(stack, browser)
    parts = urlsplit(back)
    brought = {name: values[0] for name, values in parse_qs(parts.query).items()}
    assert brought["iss"] == f"http://localhost:{stack.provider_port}"
    brought["iss"] += ".evil"
    assert browser.ask(parts._replace(query=urlencode(brought)).geturl()).status == 403


@pytest.mark.feature("AUTH-13")
def test_many_sign_ins_at_once(stack: Stack, browser: Browser) -> None:
    """A11: a browser that begins a hundred sign-ins keeps few cookies, and the last one works."""
    for count in range(100):
        form = browser.open(stack.address("intranet", f"/{count}"), until=f"http://localhost:{stack.provider_port}")
        assert form.status == 302
    assert len(browser.jars["proxy.localhost"]) <= 6
    page = browser.follow(form)
    assert browser.submit(page, username="bob", password="builder").json()["target"] == "/99"


@pytest.mark.feature("AUTH-6", "AUTH-7")
def test_sign_out_everywhere(stack: Stack, browser: Browser) -> None:
    """S12: after signing out the old cookies open nothing any more, and the provider asks for the password again."""
    browser.sign_in(stack.address("intranet"), "alice", "wonderland")
    assert browser.open(stack.address("reports")).status == 200
    old = {host: dict(jar) for host, jar in browser.jars.items()}
    question = browser.open(stack.address("intranet", "/.appproxy/sign-out"))
    assert "alice" in question.text
    at_provider = browser.submit(question, scope="everything")
    assert at_provider.url.startswith(f"http://localhost:{stack.provider_port}/"), at_provider
    done = browser.submit(at_provider, logout="yes")
    assert done.url.startswith(f"{stack.public_url}/.appproxy/signed-out")
    assert "signed out" in done.text
    assert not browser.cookie("intranet.localhost", SESSION)
    for host in ("intranet.localhost", "reports.localhost", "proxy.localhost"):
        browser.jars[host] = old[host]
    for application in ("intranet", "reports"):
        assert browser.ask(stack.address(application), fields=FETCHES).status == 401
        assert 'name="password"' in browser.open(stack.address(application)).text


@pytest.mark.feature("AUTH-6")
def test_sign_out_by_another_site(stack: Stack, browser: Browser) -> None:
    """S13: another site's link or form signs nobody out."""
    browser.sign_in(stack.address("intranet"), "alice", "wonderland")
    address = stack.address("intranet", "/.appproxy/sign-out")
    evil = {**NAVIGATES, "Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    assert browser.ask(address, fields=evil).status == 200
    assert browser.ask(address, method="POST", fields=evil, body=b"scope=everything").status == 403
    assert browser.ask(stack.address("intranet"), fields=FETCHES).status == 200


@pytest.mark.feature("AUTH-4", "OPS-4")
def test_relay_restarts(stack: Stack, browser: Browser) -> None:
    """Sessions outlive the relay's process."""
    browser.sign_in(stack.address("intranet"), "alice", "wonderland")
    assert stack.relay is not None
    stack.relay.stop()
    stack.start_relay()
    until("requests are served again", lambda: browser.ask(stack.address("intranet"), fields=FETCHES).status == 200)


@pytest.mark.feature("AUTH-2", "HTTP-8")
def test_provider_is_down(stack: Stack, browser: Browser) -> None:
    """Without the provider who is signed in goes on; others get a clear page, and can sign in once it is back."""
    browser.sign_in(stack.address("intranet"), "alice", "wonderland")
    late = stack.browser()
    form = late.open(stack.address("intranet"))
    assert stack.provider is not None
    stack.provider.kill()
    assert browser.ask(stack.address("intranet"), fields=FETCHES).status == 200
    # The metadata are remembered: people are still sent there, and one who came back in time finds nobody to ask.
    with pytest.raises(ConnectionRefusedError):
        late.submit(form, username="alice", password="wonderland")
    [state] = [parse_qs(urlsplit(each.url).query)["state"][0] for each in late.trail if "state=" in each.url][:1]
    brought = {"code": "x", "state": state, "iss": f"http://localhost:{stack.provider_port}"}
    page = late.ask(f"{callback(stack)}?{urlencode(brought)}")
    assert page.status == 502
    assert "identity provider does not answer" in page.text
    assert str(stack.provider_port) not in page.text
    stack.start_provider()
    assert late.sign_in(stack.address("intranet"), "alice", "wonderland").status == 200


@pytest.mark.feature("AUTH-2")
def test_provider_changes_its_keys(stack: Stack, browser: Browser) -> None:
    """A26: the first token signed with a new key is good, after one look at the provider's keys."""
    assert browser.sign_in(stack.address("intranet"), "alice", "wonderland").status == 200
    assert stack.provider is not None
    stack.provider.kill()
    stack.start_provider()
    assert stack.browser().sign_in(stack.address("intranet"), "bob", "builder").status == 200


@pytest.mark.feature("OBS-1", "AUTH-4")
def test_logs_keep_secrets(stack: Stack, browser: Browser) -> None:
    """S08, O02: no handle, code, state or password is in any log of ours."""
    back = answer_of_provider(stack, browser)
    assert browser.open(back).status == 200
    brought = parse_qs(urlsplit(back).query)
    secrets = [brought["code"][0], brought["state"][0], "wonderland", browser.cookie("intranet.localhost", SESSION)]
    secrets.append(browser.cookie("proxy.localhost", SESSION))
    assert all(len(each) > 8 for each in secrets)
    stack.command("session", "list")
    logs = [path for path in stack.folder.glob("*.log") if path.name not in ("provider.log", "origin.log")]
    assert len(logs) >= 4, logs
    until("the access is recorded", lambda: "/.appproxy/callback" in stack.access_log.read_text())
    for path in logs:
        text = path.read_text()
        assert not [each for each in secrets if each in text], path
