"""Cross-origin resource sharing by rule (Fetch standard, "CORS protocol"): preflights and the fields of answers.

Whoever holds rules for an address answers for its origin: what the origin says about sharing is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appproxy.applications import CrossOrigin
from appproxy.errors import ConfigError
from appproxy.http.addresses import ExternalURL
from appproxy.http.messages import Field, is_token

_ANY = "*"
_PREFIX = b"access-control-"
_VARY_PREFLIGHT = b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers"

Known = Mapping[bytes, Sequence[bytes]]


def is_preflight(method: bytes, known: Known) -> bool:
    """Whether a browser asks what a script may do, and nothing else: such a request never does anything itself.

    :param known: the request's fields by lower-case name.
    """
    return method == b"OPTIONS" and b"origin" in known and b"access-control-request-method" in known


class CrossOriginRules:
    """The rules of one address, compiled."""

    __slots__ = ("_any", "_credentials", "_exact", "_exposed", "_headers", "_max_age", "_methods", "_wildcards")

    def __init__(self, rules: CrossOrigin) -> None:
        """:param rules: checked by :mod:`appproxy.config.publishing`; its origins are canonical."""
        self._any = _ANY in rules.allowed_origins
        origins = [ExternalURL.parse(origin) for origin in rules.allowed_origins if origin != _ANY]
        self._exact = frozenset(origin.origin.encode("ascii") for origin in origins if not origin.wildcard)
        self._wildcards = tuple(origin for origin in origins if origin.wildcard)
        self._methods = _listed(rules.allowed_methods)
        self._headers = _listed(rules.allowed_headers)
        self._exposed = b", ".join(name.encode("ascii") for name in rules.exposed_headers)
        self._credentials = rules.allow_credentials
        self._max_age = b"%d" % int(rules.max_age)

    def allows(self, origin: bytes) -> bool:
        """Whether scripts of *origin* (the field's value) may use the address."""
        if self._any or origin in self._exact:
            return True
        if not self._wildcards:
            return False
        try:
            asked = ExternalURL.parse(origin.decode("ascii"))
        except (ConfigError, UnicodeDecodeError):
            return False
        return asked.origin.encode("ascii") == origin and any(
            each.scheme == asked.scheme and each.port == asked.port and each.matches(asked.host)
            for each in self._wildcards
        )

    def trusts(self, origin: bytes) -> bool:
        """Whether scripts of *origin* may also act as the user that is signed in."""
        return self._credentials and self.allows(origin)

    def preflight(self, known: Known) -> list[Field] | None:
        """The fields that answer a preflight request; None for an origin that may nothing."""
        origin = _only(known, b"origin")
        if origin is None or not self.allows(origin):
            return None
        methods = _asked(known, b"access-control-request-method") if self._methods is None else self._methods
        headers = _asked(known, b"access-control-request-headers") if self._headers is None else self._headers
        fields = [
            *self._allowed(origin),
            (b"Access-Control-Allow-Methods", methods),
            (b"Access-Control-Max-Age", self._max_age),
            (b"Vary", _VARY_PREFLIGHT),
        ]
        if headers:
            fields.append((b"Access-Control-Allow-Headers", headers))
        return fields

    def answered(self, fields: Sequence[Field], known: Known) -> list[Field]:
        """The fields of an answer with what the rules say in place of what the origin says.

        :param known: the fields of the request that is answered.
        """
        kept = [field for field in fields if not field[0].lower().startswith(_PREFIX)]
        if not self._any:
            kept.append((b"Vary", b"Origin"))
        origin = _only(known, b"origin")
        if origin is not None and self.allows(origin):
            kept += self._allowed(origin)
            if self._exposed:
                kept.append((b"Access-Control-Expose-Headers", self._exposed))
        return kept

    def _allowed(self, origin: bytes) -> list[Field]:
        allowed = [(b"Access-Control-Allow-Origin", b"*" if self._any else origin)]
        return [*allowed, (b"Access-Control-Allow-Credentials", b"true")] if self._credentials else allowed


def _listed(names: Sequence[str]) -> bytes | None:
    """Names as a field has them; None for all there are."""
    return None if _ANY in names else b", ".join(name.encode("ascii") for name in names)


def _only(known: Known, name: bytes) -> bytes | None:
    values = known.get(name, ())
    return values[0] if len(values) == 1 else None


def _asked(known: Known, name: bytes) -> bytes:
    """The names that a preflight asks for, which are all allowed."""
    asked = [part.strip(b" \t") for value in known.get(name, ()) for part in value.split(b",")]
    return b", ".join(part for part in asked if is_token(part))
