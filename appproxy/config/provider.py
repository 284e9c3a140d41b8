"""``[[provider]]`` and ``[[event_transmitter]]`` of ``relay.toml``: who says who people are, and when that is over."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509 import load_pem_x509_certificate

from appproxy.applications import Value
from appproxy.config.converting import Place
from appproxy.config.places import NODE_NAME
from appproxy.config.secrets import read_secret
from appproxy.config.urls import is_loopback, read_url

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
#: Stands in an issuer for the tenant of whoever signs in, as Microsoft Entra's metadata for several tenants write it.
TENANT = "{tenantid}"
MIN_RSA_BITS = 2048
#: Parameters of an authorization request that are the relay's to choose.
_OWN_PARAMETERS = frozenset(
    {"client_id", "code_challenge", "code_challenge_method", "nonce", "redirect_uri", "request", "request_uri"}
    | {"response_mode", "response_type", "scope", "state"}
)


class ProviderConfig(Value, frozen=True):
    """``[[provider]]``: one OpenID provider.  Secrets are the secrets themselves, wherever they came from."""

    id: str
    issuer: str
    client_id: str
    metadata_url: str = ""
    #: The tenants whose people may sign in, where *issuer* stands for many.
    tenants: tuple[str, ...] = ()
    client_secret: str = ""
    client_secret_file: Path | None = None
    private_key: str = ""
    private_key_file: Path | None = None
    #: How the provider knows the key: by this id, or by a certificate.
    key_id: str = ""
    certificate_file: Path | None = None
    #: Empty: what the provider's metadata allow.
    client_authentication: Literal["", "client_secret_basic", "client_secret_post", "private_key_jwt"] = ""
    scopes: tuple[str, ...] = ("openid", "profile", "email")
    response_mode: Literal["query", "form_post"] = "query"
    #: More parameters of the authorization request, ``name=value``.
    authorization_parameters: tuple[str, ...] = ()
    algorithms: tuple[Algorithm, ...] = ("RS256",)
    user_claim: str = "preferred_username"
    groups_claim: str = "groups"
    #: Who to ask for the groups of somebody who is in too many for a token.
    groups_url: str = ""
    ca_file: Path | None = None
    #: For a development provider on this machine only.
    allow_http: bool = False

    def __repr__(self) -> str:
        """Without the secrets."""
        return f"ProviderConfig({self.id!r}, {self.issuer!r})"


class TransmitterConfig(Value, frozen=True):
    """``[[event_transmitter]]``: who tells, by signed events, that a provider's people must sign in again."""

    id: str
    issuer: str
    #: What its events name the relay.
    audience: tuple[str, ...]
    #: Whose people it speaks of; empty where there is one provider.
    provider: str = ""
    #: Where its keys are; empty: its metadata say so.
    jwks_url: str = ""
    metadata_url: str = ""
    #: The whole value of the ``Authorization`` field that it was told to send.
    authorization: str = ""
    authorization_file: Path | None = None
    algorithms: tuple[Algorithm, ...] = ("RS256",)
    ca_file: Path | None = None
    allow_http: bool = False

    def __repr__(self) -> str:
        """Without the secret."""
        return f"TransmitterConfig({self.id!r}, {self.issuer!r})"


def check_providers(providers: tuple[ProviderConfig, ...], place: Place) -> tuple[ProviderConfig, ...]:
    """Check every provider; returns them with their secrets read.

    :raises ConfigError: naming the first thing that is wrong.
    """
    _check_ids([each.id for each in providers], "provider", place)
    return tuple(_check_provider(each, f"provider[{at}]", place) for at, each in enumerate(providers))


def check_transmitters(
    transmitters: tuple[TransmitterConfig, ...], providers: tuple[ProviderConfig, ...], place: Place
) -> tuple[TransmitterConfig, ...]:
    """Check every transmitter of events; returns them with their secrets read and their providers named.

    :raises ConfigError: naming the first thing that is wrong.
    """
    _check_ids([each.id for each in transmitters], "event_transmitter", place)
    known = [each.id for each in providers]
    return tuple(
        _check_transmitter(each, known, f"event_transmitter[{at}]", place) for at, each in enumerate(transmitters)
    )


def _check_ids(ids: list[str], key: str, place: Place) -> None:
    for position, id in enumerate(ids):
        where = f"{key}[{position}].id"
        if not NODE_NAME.fullmatch(id):
            raise place.error(where, f"{id!r} is not an id; use letters, digits, dots and hyphens")
        if ids.index(id) != position:
            raise place.error(where, f'there are two {key.replace("_", " ")}s "{id}"; ids are unique')


def _check_provider(provider: ProviderConfig, key: str, place: Place) -> ProviderConfig:
    for name in ("metadata_url", "groups_url"):
        if url := getattr(provider, name):
            _check_url(url, provider.allow_http, f"{key}.{name}", place)
    _check_issuer(provider, key, place)
    for name in ("client_id", "user_claim", "groups_claim", "algorithms"):
        if not getattr(provider, name):
            raise place.error(f"{key}.{name}", "is empty")
    if "openid" not in provider.scopes:
        raise place.error(f"{key}.scopes", 'needs "openid"; without it the provider signs nobody in')
    for position, parameter in enumerate(provider.authorization_parameters):
        _check_parameter(parameter, f"{key}.authorization_parameters[{position}]", place)
    _check_files(provider, key, place)
    secret = _one_secret(provider.client_secret, provider.client_secret_file, f"{key}.client_secret", place)
    private = _one_secret(provider.private_key, provider.private_key_file, f"{key}.private_key", place)
    _check_authentication(provider, secret, private, key, place)
    return msgspec.structs.replace(provider, client_secret=secret, private_key=private)


def _check_issuer(provider: ProviderConfig, key: str, place: Place) -> None:
    if not provider.issuer:
        raise place.error(f"{key}.issuer", "is empty")
    _check_url(provider.issuer.replace(TENANT, "tenant"), provider.allow_http, f"{key}.issuer", place)
    many = TENANT in provider.issuer
    if many and not provider.tenants:
        raise place.error(f"{key}.tenants", f"is missing; with {TENANT} in the issuer, say whose people may sign in")
    if many and not provider.metadata_url:
        raise place.error(f"{key}.metadata_url", f"is missing; with {TENANT} in the issuer it cannot be derived")
    if provider.tenants and not many:
        raise place.error(f"{key}.tenants", f"has an effect with {TENANT} in the issuer only; remove it")


def _check_parameter(parameter: str, where: str, place: Place) -> None:
    name, equals, _ = parameter.partition("=")
    if not name or not equals:
        raise place.error(where, f'{parameter!r} is no parameter; write for instance "prompt=consent"')
    if name in _OWN_PARAMETERS:
        raise place.error(where, f"{name} is set by the relay itself; remove it")


def _check_files(config: ProviderConfig | TransmitterConfig, key: str, place: Place) -> None:
    for name in ("ca_file", "certificate_file"):
        path = getattr(config, name, None)
        if path is not None and not path.is_file():
            raise place.error(f"{key}.{name}", f"there is no file {path}; create it or correct the path")


def _one_secret(secret: str, file: Path | None, key: str, place: Place) -> str:
    name = key.rpartition(".")[2]
    if file is None:
        return secret
    if secret:
        raise place.error(key, f"is given twice; keep {name}_file only")
    return read_secret(file, place.of(f"{key}_file"))


def _check_authentication(provider: ProviderConfig, secret: str, private: str, key: str, place: Place) -> None:
    named = "private_key_file" if provider.private_key_file else "private_key"
    if private and secret:
        raise place.error(f"{key}.{named}", "is given beside a client secret; keep one of them")
    how = provider.client_authentication
    if how == "private_key_jwt" and not private:
        raise place.error(f"{key}.client_authentication", "private_key_jwt needs private_key_file")
    if how.startswith("client_secret") and not secret:
        raise place.error(f"{key}.client_authentication", f"{how} needs client_secret_file")
    if not private and (provider.key_id or provider.certificate_file):
        what = "key_id" if provider.key_id else "certificate_file"
        raise place.error(f"{key}.{what}", "has an effect with private_key_file only; remove it")
    if private:
        _check_key(private, f"{key}.{named}", place)
    if provider.certificate_file is not None:
        try:
            load_pem_x509_certificate(provider.certificate_file.read_bytes())
        except (ValueError, OSError):
            problem = f"{provider.certificate_file} is not a PEM certificate"
            raise place.error(f"{key}.certificate_file", problem) from None


def _check_key(pem: str, where: str, place: Place) -> None:
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise place.error(where, "is not a PEM private key without a password") from None
    if isinstance(key, RSAPrivateKey):
        if key.key_size < MIN_RSA_BITS:
            raise place.error(where, f"has {key.key_size} bits; an RSA key needs {MIN_RSA_BITS}")
    elif not isinstance(key, EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise place.error(where, "is of a kind that signs no tokens; use RSA, EC or Ed25519")


def _check_url(url: str, allow_http: bool, key: str, place: Place) -> None:
    address, mark, _ = url.partition("?")
    if mark and key.endswith("issuer"):
        raise place.error(key, f"{url!r} has a query; an issuer has none")
    parsed = read_url(address, place.of(key))
    if parsed.scheme == "http" and not (allow_http and is_loopback(parsed.host)):
        raise place.error(key, "must be https; http is for a provider on this machine, with allow_http = true")


def _check_transmitter(
    transmitter: TransmitterConfig, providers: list[str], key: str, place: Place
) -> TransmitterConfig:
    for name in ("issuer", "jwks_url", "metadata_url"):
        if url := getattr(transmitter, name):
            _check_url(url, transmitter.allow_http, f"{key}.{name}", place)
    for name in ("issuer", "audience", "algorithms"):
        if not getattr(transmitter, name):
            raise place.error(f"{key}.{name}", "is empty")
    _check_files(transmitter, key, place)
    provider = transmitter.provider or (providers[0] if len(providers) == 1 else "")
    if provider not in providers:
        problem = f'there is no provider "{provider}"' if provider else "is needed; say whose people it speaks of"
        raise place.error(f"{key}.provider", problem)
    authorization = _one_secret(
        transmitter.authorization, transmitter.authorization_file, f"{key}.authorization", place
    )
    return msgspec.structs.replace(transmitter, provider=provider, authorization=authorization)
