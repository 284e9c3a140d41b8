"""The relay's authorities: which are trusted, which one issues, one taking over from another."""

from __future__ import annotations

from typing import Any

from appproxy.relay.admin.call import Call
from appproxy.relay.connectors import authorities
from appproxy.relay.connectors.authority import Authority


async def list_authorities(call: Call) -> dict[str, Any]:
    """All that are trusted, the one that issues first."""
    held = await call.relay.store.read(authorities.holders, call.relay.now())
    return {
        "authorities": [
            {
                "id": authorities.name_of(each.authority),
                "issues": position == 0,
                "until": int(each.authority.certificate.not_valid_after_utc.timestamp()),
                "connectors": each.connectors,
                "fingerprint": each.authority.fingerprint.hex(),
            }
            for position, each in enumerate(held)
        ]
    }


async def add_authority(call: Call) -> dict[str, Any]:
    """One more, trusted everywhere from now on; it does not issue yet."""
    added = await call.relay.store.write(authorities.add, call.relay.now())
    return _done(call, added, "authority-added", "added authority {authority}")


async def use_authority(call: Call) -> dict[str, Any]:
    """Let one issue from now on; connected connectors renew their certificates within a minute or so."""
    used = await call.relay.store.write(authorities.use, call.names[0], call.relay.now())
    return _done(call, used, "authority-used", "authority {authority} issues from now on")


async def remove_authority(call: Call) -> dict[str, Any]:
    """Trust one no more; with ``?force=1`` although connectors depend on it."""
    force = call.parameter("force") == "1"
    removed = await call.relay.store.write(authorities.remove, call.names[0], call.relay.now(), force)
    return _done(call, removed, "authority-removed", "removed authority {authority}")


def _done(call: Call, authority: Authority, event: str, text: str) -> dict[str, Any]:
    name = authorities.name_of(authority)
    call.done(event, text, authority=name)
    return {"id": name}
