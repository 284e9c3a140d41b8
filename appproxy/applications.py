"""What is published: applications and connector groups, as the apply file, the store and the channel all know them.

These are plain values; :mod:`appproxy.config` reads and checks them, so whoever holds one may rely on it.
"""

from __future__ import annotations

from typing import Any, Literal, Self, TypeVar

import msgspec

from appproxy.units import Duration


class Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """An immutable setting; unknown keys are refused by name."""


class HeaderRule(Value, frozen=True):
    """One header for the origin: *value* is ``user``, ``groups``, ``claim:NAME`` or ``const:TEXT``."""

    name: str
    value: str


#: What stands behind the names of identities; the claims are what Entra calls these properties of a user.
NAMED_IDENTITIES = {
    "userPrincipalName": "user",
    "userPrincipalUsername": "user",
    "onPremisesUserPrincipalName": "claim:onpremisesuserprincipalname",
    "onPremisesUserPrincipalUsername": "claim:onpremisesuserprincipalname",
    "onPremisesSAMAccountName": "claim:onpremisessamaccountname",
}


class SingleSignOn(Value, frozen=True):
    """How the origin is told who the user is."""

    mode: Literal["none", "header", "kerberos"] = "none"
    header: tuple[HeaderRule, ...] = ()
    #: Of the origin, with ``{host}`` and ``{port}`` of the internal address; empty: ``HTTP/{host}``.
    spn: str = ""
    #: Which name the KDC is asked for the user by, see :mod:`appproxy.sso.names`; or an expression.
    identity: str = "userPrincipalName"
    #: Of users and services that are named without one; empty: the connector's own.
    realm: str = ""
    mechanism: Literal["spnego", "kerberos"] = "spnego"
    #: False: the ticket goes along once the origin asks for one.
    preemptive: bool = True
    #: What the origin has to prove: nothing; whatever it offers; or itself with every answer.
    mutual: Literal["off", "offered", "required"] = "offered"
    #: Tie tickets for ``https`` origins to the origin's certificate.
    channel_binding: bool = True

    @property
    def expressions(self) -> tuple[str, ...]:
        """Everything that is told of a user, as :mod:`appproxy.expressions` has it."""
        match self.mode:
            case "header":
                return tuple(rule.value for rule in self.header)
            case "kerberos":
                return (self.identity_expression,)
            case _:
                return ()

    @property
    def identity_expression(self) -> str:
        """What *identity* is taken from, as :mod:`appproxy.expressions` has it."""
        return NAMED_IDENTITIES.get(self.identity, self.identity)


class Assigned(Value, frozen=True):
    """Who may use an application: named users, members of groups, or everyone who can sign in."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    everyone: bool = False


class Who(Value, frozen=True):
    """Whom a rule means: named users, members of groups, owners of one of a claim's values, or everyone."""

    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    claims: dict[str, tuple[str, ...]] = {}
    everyone: bool = False


class Rule(Value, frozen=True):
    """Something to be looked at with every request; see :mod:`appproxy.relay.access.rules`."""

    name: str = ""
    #: Where it applies: nothing given is anywhere.  A path with a slash at its end covers all below.
    paths: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    times: tuple[str, ...] = ()
    time_zone: str = "UTC"
    sign_in: Literal["required", "optional", "public"] = "required"
    allow: Who | None = None
    deny: Who | None = None
    #: How the user has to have signed in: at most so long ago, in one of these ways.
    max_authentication_age: Duration = Duration(0)
    acr: tuple[str, ...] = ()
    amr: tuple[str, ...] = ()


class Translate(Value, frozen=True):
    """What is rewritten between internal and external addresses."""

    #: True: the origin sees the internal host in ``Host``; False: the external one.
    host_header: bool = True
    headers: bool = True
    #: Links in HTML, CSS and the like.
    bodies: bool = False
    #: True: to the alternate URL of the application; False: to its external one.
    alternate_url: bool = False


class Cookies(Value, frozen=True):
    """Attributes of the relay's own session cookie for this application."""

    http_only: bool = True
    secure: bool = True
    persistent: bool = False
    same_site: Literal["lax", "strict", "none"] = "lax"
    partitioned: bool = False


class SignInSettings(Value, frozen=True):
    """What becomes of requests while their users sign in, and where that may happen."""

    #: What stands after the # of an address.
    keep_fragment: bool = True
    #: Forms, up to 1 MiB.
    keep_posts: bool = True
    #: Paths that take forms of other sites, as a SAML assertion consumer does: these are kept, too.
    cross_site_posts: tuple[str, ...] = ()
    #: Origins whose pages may show the application in a frame: people sign in in a window then.
    frame_ancestors: tuple[str, ...] = ()


class SessionLifetime(Value, frozen=True):
    """How long a sign-in to this application lasts."""

    idle: Duration = Duration(8 * 3600)
    absolute: Duration = Duration(24 * 3600)


class FirstByte(Duration):
    """How long an origin may think: a length of time, or ``"long"`` for the 180 s of slow applications."""

    @classmethod
    def parse(cls, text: object) -> Self:
        """Read a duration or the word; :raises ValueError: with a sentence saying how one is written."""
        return cls(180) if text == "long" else super().parse(text)


class Timeouts(Value, frozen=True):
    """How long each part of the journey to the origin may take."""

    connect: Duration = Duration(10)
    first_byte: FirstByte = FirstByte(85)
    idle: Duration = Duration(300)
    upgraded_idle: Duration = Duration(7200)
    #: From the request to the end of the answer; nothing: as long as something moves.
    total: Duration = Duration(0)
    #: Between pings to the client of an idle WebSocket; nothing: none.
    ping: Duration = Duration(0)


class OriginTLS(Value, frozen=True):
    """How the connector checks an ``https`` origin."""

    verify: bool = True
    ca_file: str = ""
    server_name: str = ""
    #: Each connection of a client has one to the origin for itself, for sign-in that is bound to connections (NTLM).
    pinned: bool = False


class CrossOrigin(Value, frozen=True):
    """Whose scripts may use a segment from elsewhere: what the relay says of it in the origin's place (CORS).

    Origins are canonical, with ``*`` for any and ``https://*.host`` for one label or more.
    """

    allowed_origins: tuple[str, ...]
    allowed_methods: tuple[str, ...] = ("GET", "HEAD", "POST")
    allowed_headers: tuple[str, ...] = ()
    exposed_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    max_age: Duration = Duration(600)


class AccessTokens(Value, frozen=True):
    """Which access tokens of the application's provider let programs in; none without an audience."""

    #: What the tokens have to be for; any one of these.
    audiences: tuple[str, ...] = ()
    #: A token that speaks for a user needs one of these.
    scopes: tuple[str, ...] = ()
    #: One of these lets a program in that speaks for itself.
    roles: tuple[str, ...] = ()
    #: The field that the token comes in; empty: ``Authorization``.
    token_header: str = ""


class RateLimits(Value, frozen=True):
    """How many requests there may be in each *interval*; 0: any number."""

    user: int = 0
    address: int = 0
    application: int = 0
    interval: Duration = Duration(60)
    #: So many may come at once; 0: as many as in an interval.
    burst: int = 0


class IdentityToken(Value, frozen=True):
    """A signed statement on who the user is, for origins that check it."""

    #: The field that it goes in; empty: there is none.
    header: str = ""
    #: What it says beside the user's name.
    claims: tuple[str, ...] = ()
    groups: bool = False
    lifetime: Duration = Duration(300)


class ClientCertificates(Value, frozen=True):
    """Certificates that users' browsers and programs show; none are asked for without an authority."""

    #: The authorities that issue them, as PEM.
    ca: str = ""
    #: What in a certificate names its owner, who then needs no other sign-in; empty: nothing.
    user: Literal["", "upn", "email", "cn"] = ""
    #: True: nobody comes in without one, whatever else they have.
    required: bool = False
    #: True: the origin gets it, in ``Client-Cert`` (RFC 9440).
    forward: bool = False


class Segment(Value, frozen=True):
    """One address of an application and where it leads."""

    external_url: str
    internal_url: str
    #: For Kerberos, instead of the application's.
    spn: str = ""
    cors: CrossOrigin | None = None


class Application(Value, frozen=True):
    """One published thing.  All its URLs are canonical, with a trailing slash on the path.

    It has an external and an internal URL, or segments, or all of these; with no segment and no URLs nothing of it is
    published.
    """

    id: str
    connector_group: str
    external_url: str = ""
    internal_url: str = ""
    #: None where the apply file does not speak of them.
    segment: tuple[Segment, ...] | None = None
    #: A second external address of the first segment, for what distributes requests in front of several relays.
    alternate_url: str = ""
    name: str = ""
    preauthentication: Literal["oidc", "passthrough"] = "oidc"
    provider: str = ""
    assigned: Assigned = Assigned()
    assignment_required: bool = True
    home_page: str = ""
    enabled: bool = True
    #: Answers say that it is being worked on.
    maintenance: bool = False
    rule: tuple[Rule, ...] = ()
    #: Fields that clients may set although origins take them for a gateway's word.
    client_fields: tuple[str, ...] = ()
    #: ``entra``: whoever has not signed in is redirected, programs too.
    compat: Literal["", "entra"] = ""
    api: AccessTokens = AccessTokens()
    rate: RateLimits = RateLimits()
    client_certificate: ClientCertificates = ClientCertificates()
    sso: SingleSignOn = SingleSignOn()
    identity_token: IdentityToken = IdentityToken()
    translate: Translate = Translate()
    cookies: Cookies = Cookies()
    sign_in: SignInSettings = SignInSettings()
    session: SessionLifetime = SessionLifetime()
    timeouts: Timeouts = Timeouts()
    origin: OriginTLS = OriginTLS()

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Everything it publishes: external and internal URL first, then the segments."""
        first = (Segment(external_url=self.external_url, internal_url=self.internal_url),) if self.external_url else ()
        return first + (self.segment or ())

    @property
    def external_urls(self) -> tuple[str, ...]:
        """Every address of it, the alternate one last."""
        urls = tuple(segment.external_url for segment in self.segments)
        return (*urls, self.alternate_url) if self.alternate_url else urls


class ConnectorGroup(Value, frozen=True):
    """Connectors that can all reach the same origins."""

    name: str


T = TypeVar("T", Application, ConnectorGroup)


def to_document(value: Value) -> dict[str, Any]:
    """Write a setting with plain types only, durations as people write them; what is default is left out."""
    document: dict[str, Any] = msgspec.to_builtins(value, enc_hook=str)
    return document


def from_document(document: object, kind: type[T]) -> T:
    """Read what :func:`to_document` wrote; :raises msgspec.ValidationError: when it is not that."""
    return msgspec.convert(document, kind, dec_hook=_decode)


def _decode(kind: type, value: object) -> object:
    if issubclass(kind, Duration):
        return kind.parse(value)
    raise NotImplementedError(f"no way to read a {kind.__name__}")
