"""Ranges and conditions, answered by Apache and nginx: the same octets direct and published."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections import deque
from collections.abc import Iterator

import pytest

from tests.joined.exchanges import request
from tests.joined.reading import Field, Message, MessageReader
from tests.joined.test_fidelity import RELAYS_OWN, end_to_end
from tests.live.apache import Apache
from tests.live.clients import Raw
from tests.live.programs import Program, free_ports, listens
from tests.live.stack import Stack

pytestmark = pytest.mark.live

APPLICATIONS = '[[connector_group]]\nname = "hq"\n' + "".join(
    f"""
[[application]]
id = "{name}"
external_url = "https://{name}.localhost:PORT/"
internal_url = "http://127.0.0.1:{name.upper()}/"
connector_group = "hq"
preauthentication = "passthrough"
"""
    for name in ("apache", "nginx")
)
NGINX = """
daemon off; pid nginx.pid; error_log stderr; worker_processes 1; {user}
events {{ }}
http {{
    access_log off;
    default_type application/octet-stream;
    client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""
CONTENT = random.Random(2).randbytes(300_000)
YESTERDAY, TOMORROW = b"Thu, 01 Jan 2015 00:00:00 GMT", b"Fri, 01 Jan 2055 00:00:00 GMT"
TAG = b"<the file's>"
ASKED: dict[str, list[Field]] = {
    "all": [],
    "first": [(b"Range", b"bytes=0-0")],
    "last": [(b"Range", b"bytes=-1")],
    "middle": [(b"Range", b"bytes=100000-199999")],
    "open end": [(b"Range", b"bytes=299000-")],
    "beyond": [(b"Range", b"bytes=299990-999999")],
    "several": [(b"Range", b"bytes=0-9,1000-1999,-5")],
    "many": [(b"Range", b"bytes=" + b",".join(b"%d-%d" % (at, at) for at in range(0, 3000, 30)))],
    "none left": [(b"Range", b"bytes=300000-")],
    "nonsense": [(b"Range", b"bytes=b-a")],
    "other unit": [(b"Range", b"pages=1-2")],
    "same tag": [(b"If-None-Match", TAG)],
    "one of the tags": [(b"If-None-Match", b'"other", ' + TAG)],
    "another tag": [(b"If-None-Match", b'"other"')],
    "any tag": [(b"If-None-Match", b"*")],
    "matching": [(b"If-Match", TAG)],
    "not matching": [(b"If-Match", b'"other"')],
    "not since": [(b"If-Modified-Since", TOMORROW)],
    "since": [(b"If-Modified-Since", YESTERDAY)],
    "unmodified since": [(b"If-Unmodified-Since", TOMORROW)],
    "modified since": [(b"If-Unmodified-Since", YESTERDAY)],
    "range of the same": [(b"Range", b"bytes=10-19"), (b"If-Range", TAG)],
    "range of another": [(b"Range", b"bytes=10-19"), (b"If-Range", b'"other"')],
}


@pytest.fixture(scope="module")
def apache() -> Iterator[Apache]:
    """Apache's folder, with a file; nginx serves it too."""
    [port] = free_ports(1)
    apache = Apache(port)
    (apache.root / "htdocs" / "files" / "data.bin").write_bytes(CONTENT)
    yield apache
    apache.remove()


@pytest.fixture(scope="module")
def nginx() -> int:
    """Where nginx listens."""
    return free_ports(1)[0]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, apache: Apache, nginx: int) -> Iterator[Stack]:
    """Everything, started once for this module."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if binary is None:
        pytest.skip("there is no nginx; on Debian: apt-get install nginx-light")
    with Stack(tmp_path_factory.mktemp("ranges")) as stack:
        stack.add(apache.start(stack.folder))
        user = "user nobody nogroup;" if os.geteuid() == 0 else ""
        configuration = stack.write("nginx.conf", NGINX.format(port=nginx, root=apache.root / "htdocs", user=user))
        program = stack.add(Program("nginx", [binary, "-p", stack.folder, "-c", configuration], stack.folder))
        program.wait_for(lambda: listens(nginx), "nginx listens")
        stack.start(APPLICATIONS.replace("APACHE", str(apache.port)).replace("NGINX", str(nginx)))
        yield stack


def ask(raw: Raw, name: str, method: bytes, fields: list[Field]) -> Message:
    """One request for the file, and its answer."""
    reader = MessageReader(deque([method]))
    with raw:
        host = b"%b.localhost" % name.encode()
        raw.send(request(method, b"/files/data.bin", [*fields, (b"Connection", b"close")], host=host))
        reader.feed(raw.rest())
    reader.close()
    [message] = reader.messages
    return message


def same(message: Message) -> tuple[object, ...]:
    """What must be equal: all but the time, and but the boundary that each answer makes up."""
    [kind] = message.values(b"content-type") or [b""]
    found = re.search(rb"boundary=(\S+)", kind)
    boundary = found[1] if found else b"no boundary"
    fields = [(name, value.replace(boundary, b"X")) for name, value in end_to_end(message, RELAYS_OWN | {b"date"})]
    return message.start[1:], fields, bytes(message.body).replace(boundary, b"X")


@pytest.mark.feature("HTTP-2", "SCN-12")
@pytest.mark.parametrize("name", ["apache", "nginx"])
@pytest.mark.parametrize("method", [b"GET", b"HEAD"], ids=bytes.decode)
def test_as_if_direct(stack: Stack, apache: Apache, nginx: int, name: str, method: bytes) -> None:
    """Whole, in part or not at all, as asked: status, fields and octets are the origin's."""
    port = {"apache": apache.port, "nginx": nginx}[name]
    host = f"{name}.localhost"
    [tag] = ask(Raw(port, None, host), name, b"GET", []).values(b"etag")
    statuses = set()
    for case, fields in ASKED.items():
        asked = [(field, value.replace(TAG, tag)) for field, value in fields]
        direct = ask(Raw(port, None, host), name, method, asked)
        proxied = ask(Raw(stack.clients_port, stack.tls(), host), name, method, asked)
        assert same(proxied) == same(direct), case
        assert proxied.complete, case
        if lengths := direct.values(b"content-length"):
            assert proxied.values(b"content-length") == lengths, case
        statuses.add(direct.status)
    assert statuses >= {200, 206, 304, 412, 416}
