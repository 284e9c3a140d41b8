"""Why a user's ticket could not be had, or was not taken: one named cause each, with what to say to whom.

Users are told what they can do, which is little; operators which setting of which server to change.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from appproxy.errors import Phase, Side
from appproxy.sso.asking import GssFailed, Number, Step
from appproxy.sso.method import SignOnFailed


class Cause(NamedTuple):
    """A named cause.

    :ivar code: in access records, pages and logs.
    :ivar says: what is wrong, for operators; *remedy*: what to do about it.
    :ivar title: for the user, with *sentence*.
    """

    code: str
    status: int
    side: Side
    says: str
    remedy: str
    title: str
    sentence: str


_ACCOUNT = "Your account cannot be used here"
_SIGN_ON = "You cannot be signed in to the application"
_ADMINISTRATOR = "Your administrator can find out why."
_LATER = "The directory service does not answer. Please try again in a minute."
_OURS = Side.CONNECTOR

#: By code.
CAUSES: Final[dict[str, Cause]] = {}


def _cause(
    code: str,
    says: str,
    remedy: str,
    status: int = 502,
    title: str = _SIGN_ON,
    sentence: str = _ADMINISTRATOR,
    side: Side = _OURS,
) -> Cause:
    cause = CAUSES[code] = Cause(f"kerberos-{code}", status, side, says, remedy, title, sentence)
    return cause


# The connector's own account and settings

NOT_SET_UP = _cause(
    "not-set-up",
    "This connector has no account in the realm.",
    "Set principal and keytab_file in [kerberos] of connector.toml and restart the connector.",
)
KEYTAB_MISSING = _cause(
    "keytab-missing",
    "The connector's keytab cannot be read.",
    "Put it where keytab_file in connector.toml says, readable for the connector's user and nobody else.",
)
KEYTAB_BROKEN = _cause(
    "keytab-broken",
    "The connector's keytab is not a keytab.",
    "Export it again: ktpass, adutil or msktutil for Active Directory, kadmin ktadd or ipa-getkeytab elsewhere.",
)
KEYTAB_OTHER = _cause(
    "keytab-other",
    "The connector's keytab has no key of the principal in connector.toml.",
    "Compare with: klist -kte KEYTAB. The realm is in capitals, and names are compared letter by letter.",
)
CCACHE_STALE = _cause(
    "ccache-stale",
    "The credential cache in the settings has no ticket of the connector's account that is good.",
    "See that whatever keeps it fresh runs: klist CCACHE.",
)
CONNECTOR_KEY = _cause(
    "connector-key",
    "The KDC does not accept the connector's key: the password was changed after the keytab was exported.",
    "Export the keytab again; the connector takes the new file without a restart.",
)
CONNECTOR_UNKNOWN = _cause(
    "connector-unknown",
    "The realm does not know the connector's account.",
    "Correct principal in connector.toml, or create the account.",
)
CONNECTOR_DISABLED = _cause(
    "connector-disabled",
    "The connector's account is disabled, locked or expired.",
    "Enable it in the directory, and let its password not expire.",
)
CONFIG_BROKEN = _cause(
    "config-broken",
    "krb5.conf cannot be read.",
    "Correct its syntax; krb5_config_file in connector.toml names it, else it is /etc/krb5.conf.",
)
REALM_UNKNOWN = _cause(
    "realm-unknown",
    "No KDC of the realm can be found.",
    "Name it in [realms] of krb5.conf, or publish _kerberos._tcp.REALM in DNS.",
)
NOT_FORWARDABLE = _cause(
    "not-forwardable",
    "The connector's own ticket is not forwardable, so nothing can be delegated with it.",
    "Remove forwardable = false from krb5.conf, and allow forwardable tickets for the account.",
)
CLOCK = _cause(
    "clock",
    "The clocks of the connector and the KDC are more than five minutes apart.",
    "Keep both by NTP.",
)
LIBRARY = _cause(
    "library",
    "The Kerberos library gave an answer that has no name here.",
    "Its text is in the connector's log; appproxy connector doctor shows which step fails.",
)

# The KDC

KDC_UNREACHABLE = _cause(
    "kdc-unreachable",
    "No KDC of the realm can be reached from the connector.",
    "See that port 88 of a domain controller is open to the connector: appproxy connector doctor.",
    503,
    sentence=_LATER,
)
KDC_SILENT = _cause(
    "kdc-silent",
    "The KDC took the question but did not answer in time.",
    "See that the domain controller is healthy; requests go on by themselves when it answers again.",
    503,
    sentence=_LATER,
)
KDC_BUSY = _cause(
    "kdc-busy",
    "Too many users wait for a ticket at once.",
    "See that the domain controller is healthy and near; add connectors to the group.",
    503,
    sentence=_LATER,
)

# The user

NAME_EMPTY = _cause(
    "name-empty",
    "The provider says nothing of the user under the name that this application's identity asks for.",
    "Let the provider issue that claim, or choose another identity for the application.",
    403,
    _ACCOUNT,
)
NAME_REFUSED = _cause(
    "name-refused",
    "The user's name cannot be the name of an account.",
    "It has characters that no account has, no or several @, or is too long; see what the provider issues.",
    403,
    _ACCOUNT,
)
USER_UNKNOWN = _cause(
    "user-unknown",
    "The directory does not know the user by that name.",
    "Compare the name in the connector's log with the account's userPrincipalName or sAMAccountName, and choose the "
    "application's identity accordingly.",
    403,
    _ACCOUNT,
    "The application's directory does not know you. Your administrator can find out why.",
)
USER_DISABLED = _cause(
    "user-disabled",
    "The user's account is disabled, locked out, or refused by a policy of the directory.",
    "Enable or unlock it in the directory.",
    403,
    _ACCOUNT,
    "It is disabled or locked in the application's directory.",
)
USER_EXPIRED = _cause(
    "user-expired",
    "The user's account has expired.",
    "Set a later date of expiry in the directory.",
    403,
    _ACCOUNT,
    "It has expired in the application's directory.",
)
USER_PASSWORD = _cause(
    "user-password",
    "The user has to change the password before tickets are issued.",
    "Let the user sign in once where that can be done, or clear the flag in the directory.",
    403,
    _ACCOUNT,
    "Its password has to be changed first.",
)
USER_REALM = _cause(
    "user-realm",
    "The user's realm is not known in the connector's, or there is no trust between them.",
    "Make a two-way trust, or name the user by an identity of the connector's own realm.",
    403,
    _ACCOUNT,
)
USER_IS_CONNECTOR = _cause(
    "user-is-connector",
    "The user's name is that of the connector's own account.",
    "Nobody signs in as a service; see who has that name at the provider.",
    403,
    _ACCOUNT,
)
CONNECTOR_WITHOUT_SPN = _cause(
    "connector-without-spn",
    "The connector's account has no service principal name, so users' tickets cannot be issued to it.",
    "Active Directory: setspn -S HTTP/connector-host ACCOUNT. MIT: allow it to be a service (+allow_svr).",
)

# The origin

SPN_UNKNOWN = _cause(
    "spn-unknown",
    "The realm knows no service by the origin's service principal name.",
    "Active Directory: setspn -S HTTP/host ACCOUNT, with the account that the application runs under; or correct spn.",
)
SPN_TWICE = _cause(
    "spn-twice",
    "Several accounts have the origin's service principal name.",
    "Find them with: setspn -X; leave it with the account that the application runs under.",
)
NOT_DELEGATED = _cause(
    "not-delegated",
    "The connector's account may not delegate to the origin's service principal name.",
    "Active Directory: add the name to msDS-AllowedToDelegateTo of the connector's account (tab Delegation), or the "
    "connector's account to PrincipalsAllowedToDelegateToAccount of the origin's. MIT: krbAllowedToDelegateTo. "
    "FreeIPA: ipa servicedelegationrule.",
)
NO_TRANSITION = _cause(
    "no-transition",
    "The user's evidence is not forwardable: the account is sensitive or in Protected Users, or the connector's "
    "account may not use any authentication protocol.",
    "If other users get in, it is this one: clear 'Account is sensitive and cannot be delegated' if it is no "
    "administrator. If nobody does: choose 'Use any authentication protocol' on the connector's account "
    "(TRUSTED_TO_AUTH_FOR_DELEGATION; MIT: +ok_to_auth_as_delegate).",
    403,
    _ACCOUNT,
    "Your account may not be used through this service, or it is not set up. Your administrator can find out which.",
)
DELEGATION_REFUSED = _cause(
    "delegation-refused",
    "The KDC refuses to delegate.",
    "See that the connector's account may delegate to the service principal name, and that the user is not sensitive.",
)
ENCRYPTION = _cause(
    "encryption",
    "The KDC and the connector, or the origin's account, have no encryption type in common.",
    "Active Directory: set msDS-SupportedEncryptionTypes of both accounts to 24 (AES) and reset their passwords.",
)
WEAK = _cause(
    "weak-ticket",
    "The ticket to the origin is encrypted with RC4, which is broken.",
    "Set msDS-SupportedEncryptionTypes of the origin's account to 24 (AES) and reset its password; or allow_rc4 = true "
    "in connector.toml until that is done.",
)
ORIGIN_CLOCK = _cause(
    "origin-clock",
    "The origin refuses the ticket because of its clock.",
    "Keep the origin's clock by NTP.",
    side=Side.ORIGIN,
)
ORIGIN_KEY = _cause(
    "origin-key",
    "The origin cannot decrypt the ticket: its key is not that of the account which has the service principal name.",
    "IIS: run the application pool under the account with the name, or set useAppPoolCredentials. Apache: export its "
    "keytab again. Otherwise the name belongs to another account: setspn -Q HTTP/host.",
    side=Side.ORIGIN,
)
ORIGIN_NAME = _cause(
    "origin-name",
    "The origin has no key of the service principal name.",
    "Add the name to its keytab, or correct spn.",
    side=Side.ORIGIN,
)
ORIGIN_REFUSED = _cause(
    "origin-refused",
    "The origin refuses a fresh ticket without a reason.",
    "See its own log: Windows authentication may be off, the user not allowed, a larger head needed (MaxTokenSize), or "
    "the mechanism the other one (spnego, kerberos).",
    side=Side.ORIGIN,
)
ORIGIN_FORBIDS = _cause(
    "origin-forbids",
    "The origin knows the user and does not let them in.",
    "Permissions are the application's own.",
    403,
    "You may not open this",
    "The application does not let you in.",
    Side.ORIGIN,
)
ORIGIN_UNPROVEN = _cause(
    "origin-unproven",
    "The origin did not prove that it is the service that the ticket is for.",
    "Something else may answer at its address. Where the application keeps a session of its own and proves nothing "
    'afterwards, mutual = "offered" is right.',
    side=Side.ORIGIN,
)
TICKET_TOO_LARGE = _cause(
    "ticket-too-large",
    "The user's ticket is larger than a request may carry.",
    "The user is in very many groups; remove some, or trim SID history.",
    403,
    _ACCOUNT,
    "It is in too many groups of the application's directory.",
)

_ACQUIRE: Final = {
    Number.NO_FILE: KEYTAB_MISSING,
    Number.BAD_OPTION: KEYTAB_MISSING,  # at this step: the system's "permission denied"
    Number.IS_FOLDER: KEYTAB_MISSING,
    Number.BAD_KEYTAB: KEYTAB_BROKEN,
    Number.NOT_IN_KEYTAB: KEYTAB_OTHER,
    Number.NO_CACHE: CCACHE_STALE,
    Number.PREAUTHENTICATION_FAILED: CONNECTOR_KEY,
    Number.BAD_INTEGRITY: CONNECTOR_KEY,
    Number.CLIENT_UNKNOWN: CONNECTOR_UNKNOWN,
    Number.REVOKED: CONNECTOR_DISABLED,
    Number.CLIENT_EXPIRED: CONNECTOR_DISABLED,
    Number.KEY_EXPIRED: CONNECTOR_DISABLED,
    Number.POLICY: CONNECTOR_DISABLED,
    Number.ENCTYPE: ENCRYPTION,
    Number.TICKET_EXPIRED: CCACHE_STALE,
}
_IMPERSONATE: Final = {
    Number.CLIENT_UNKNOWN: USER_UNKNOWN,
    Number.SERVER_UNKNOWN: CONNECTOR_WITHOUT_SPN,
    Number.MUST_USE_USER_TO_USER: CONNECTOR_WITHOUT_SPN,
    Number.POLICY: USER_DISABLED,
    Number.REVOKED: USER_DISABLED,
    Number.CLIENT_EXPIRED: USER_EXPIRED,
    Number.KEY_EXPIRED: USER_PASSWORD,
    Number.PADATA: USER_IS_CONNECTOR,
    Number.MALFORMED_NAME: NAME_REFUSED,
    Number.ENCTYPE: ENCRYPTION,
}
_DELEGATE: Final = {
    Number.SERVER_UNKNOWN: SPN_UNKNOWN,
    Number.SERVER_NOT_UNIQUE: SPN_TWICE,
    Number.BAD_OPTION: DELEGATION_REFUSED,
    Number.POLICY: USER_DISABLED,
    Number.REVOKED: USER_DISABLED,
    Number.KEY_EXPIRED: USER_PASSWORD,
    Number.CLIENT_EXPIRED: USER_EXPIRED,
    Number.ENCTYPE: ENCRYPTION,
}
_REPLY: Final = {
    Number.SKEW: ORIGIN_CLOCK,
    Number.TICKET_NOT_YET_VALID: ORIGIN_CLOCK,
    Number.TICKET_EXPIRED: ORIGIN_CLOCK,
    Number.BAD_INTEGRITY: ORIGIN_KEY,
    Number.KEY_VERSION: ORIGIN_KEY,
    Number.NO_KEY: ORIGIN_KEY,
    Number.NOT_US: ORIGIN_NAME,
}
_BY_STEP: Final = {
    Step.ACQUIRE: _ACQUIRE,
    Step.IMPERSONATE: _IMPERSONATE,
    Step.DELEGATE: _DELEGATE,
    Step.REPLY: _REPLY,
}
#: At every step but the origin's reply.
_ANYWHERE: Final = {
    Number.KDC_UNREACHABLE: KDC_UNREACHABLE,
    Number.REALM_UNKNOWN: REALM_UNKNOWN,
    Number.BAD_CONFIG: CONFIG_BROKEN,
    Number.SKEW: CLOCK,
}
#: What says nothing about one user or service: the next request may be luckier.
PASSING: Final = frozenset({KDC_UNREACHABLE, KDC_SILENT, KDC_BUSY, CLOCK})


class KerberosFailed(SignOnFailed):
    """The origin could not be told who the user is by a Kerberos ticket.

    :ivar cause: by name.
    :ivar step: where it happened.
    """

    phase = Phase.SSO

    def __init__(self, cause: Cause, detail: str = "", step: Step | None = None) -> None:
        where = f" at step {step}" if step is not None else ""
        super().__init__(f"{cause.says} {cause.remedy} ({detail or 'no more is known'}{where})")
        self.cause = cause
        self.step = step
        self.code = cause.code  # type: ignore[misc]
        self.status = cause.status  # type: ignore[misc]
        self.side = cause.side  # type: ignore[misc]


def cause_of(failure: GssFailed, *, foreign: bool = False) -> Cause:
    """The cause that a refusal of the library stands for.

    :param foreign: the user was named in another realm than the connector's.
    """
    step, number = failure.step, failure.number
    if step is not Step.REPLY and number in _ANYWHERE:
        return _ANYWHERE[Number(number)]
    if step is Step.DELEGATE and number == Number.BAD_OPTION and failure.forwardable is not None:
        own, evidence = failure.forwardable
        return NOT_DELEGATED if evidence else NO_TRANSITION if own else NOT_FORWARDABLE
    if step is Step.IMPERSONATE and number == Number.SERVER_UNKNOWN and foreign:
        return USER_REALM
    found = _BY_STEP.get(step, {}).get(number)  # type: ignore[call-overload]
    if found is None:
        return ORIGIN_REFUSED if step is Step.REPLY else LIBRARY
    return found  # type: ignore[no-any-return]
