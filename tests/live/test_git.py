"""git over smart HTTP, its own server behind Apache: clone, push and fetch through relay and connector."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.apache import GIT_BACKEND, Apache
from tests.live.programs import free_ports
from tests.live.stack import Stack

pytestmark = pytest.mark.live

APPLICATIONS = """
[[connector_group]]
name = "hq"
[[application]]
id = "git"
external_url = "https://git.localhost:PORT/code/"
internal_url = "http://127.0.0.1:APACHE/git/"
connector_group = "hq"
preauthentication = "passthrough"
"""
#: More than git sends with a length; what is larger goes in chunks.
PACK_BYTES = 6_000_000


class Git:
    """git with no settings of whoever runs the tests.

    :param authority: that it trusts.
    """

    def __init__(self, home: Path, authority: Path) -> None:
        self._environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_SSL_CAINFO": str(authority),
            **{
                f"GIT_{who}_{what}": "test@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
            },
        }

    def __call__(self, *arguments: str | Path) -> str:
        """Run it; returns what it printed."""
        ran = subprocess.run(
            ["git", *map(str, arguments)], env=self._environ, capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 0, (arguments, ran.stdout, ran.stderr)
        return ran.stdout.strip()


@pytest.fixture(scope="module")
def apache() -> Iterator[Apache]:
    """Apache's folder with one empty repository."""
    if shutil.which("git") is None or not GIT_BACKEND.exists():
        pytest.skip("there is no git; on Debian: apt-get install git")
    [port] = free_ports(1)
    apache = Apache(port)
    repository = apache.root / "repositories" / "project.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", repository], check=True)
    subprocess.run(["git", "-C", repository, "config", "http.receivepack", "true"], check=True)
    yield apache
    apache.remove()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, apache: Apache) -> Iterator[Stack]:
    """Everything, started once for this module."""
    with Stack(tmp_path_factory.mktemp("git")) as stack:
        stack.add(apache.start(stack.folder))
        stack.start(APPLICATIONS.replace("APACHE", str(apache.port)))
        yield stack


@pytest.mark.feature("HTTP-2", "SCN-12")
def test_clone_push_and_fetch(stack: Stack, apache: Apache, tmp_path: Path) -> None:
    """A repository comes and goes by the external address; packs of megabytes in chunks, questions in gzip."""
    git = Git(tmp_path, stack.authority)
    url = stack.address("git", "/code/project.git")
    alice, bob = tmp_path / "alice", tmp_path / "bob"
    git("clone", "-q", url, alice)
    (alice / "large").write_bytes(random.Random(1).randbytes(PACK_BYTES))
    git("-C", alice, "add", "large")
    git("-C", alice, "commit", "-q", "-m", "large")
    git("-C", alice, "push", "-q", "origin", "HEAD:main")
    git("clone", "-q", url, bob)
    assert (bob / "large").read_bytes() == (alice / "large").read_bytes()
    # Bob has much that the server does not know: his question what is new names it all.
    for number in range(100):
        git("-C", bob, "commit", "-q", "--allow-empty", "-m", f"local {number}")
    (alice / "small").write_text("new")
    git("-C", alice, "add", "small")
    git("-C", alice, "commit", "-q", "-m", "small")
    git("-C", alice, "push", "-q", "origin", "HEAD:main")
    git("-C", bob, "pull", "-q", "--rebase")
    assert (bob / "small").read_text() == "new"
    assert git("-C", bob, "fsck", "--full", "--strict") == ""
    requests = [line.split() for line in apache.requests()]
    assert {line[2] for line in requests} == {"200"}
    assert any(line[0] == "POST" and line[4] == "chunked" for line in requests), "no pack in chunks"
    assert any(line[0] == "POST" and line[3] == "gzip" for line in requests), "no body in gzip"
