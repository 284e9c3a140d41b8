"""Who a connector is, by its certificate: checked at the door of every channel, replaced in time.

TLS has verified that the relay's authority issued the certificate and that the peer holds its key.  What remains: it is
a connector's certificate and no server's (R11), the connector is enrolled and not revoked (R10), and the certificate
has not been superseded.  One identity in two hands shows when both renew: the certificate of one is then superseded by
the other's, and both are shut out (R06).
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from twisted.logger import Logger

from appproxy.channel.listen import Refused
from appproxy.relay.connectors.authorities import Authorities
from appproxy.relay.connectors.authority import CONNECTOR_DAYS, CONNECTOR_URI, DAY
from appproxy.store import connectors
from appproxy.store.interface import Store
from appproxy.store.records import ConnectorRecord

#: For so long after a renewal the old certificate still opens channels: the answer may have been lost on its way.
SUPERSEDED_SECONDS = 3600
_ISSUED_SECONDS = CONNECTOR_DAYS * DAY


class Admission:
    """Lets enrolled connectors in, and renews their certificates."""

    log = Logger()

    def __init__(self, authorities: Authorities, store: Store, now: Callable[[], int]) -> None:
        self._authorities = authorities
        self._store = store
        self._now = now

    async def admit(self, der: bytes | None, peer: str) -> ConnectorRecord:
        """The enrolled connector that shows this certificate.

        :raises Refused: it may not come in; the reason is for the connector and for the log.
        """
        try:
            record = await self._known(der)
        except Refused as refusal:
            self.log.warn(
                "a connector at {peer} was refused: {reason}",
                event="connector.refused",
                peer=peer,
                reason=str(refusal),
            )
            raise
        return record

    async def _known(self, der: bytes | None) -> ConnectorRecord:
        certificate = read_certificate(der)
        connector = connector_of(certificate)
        now = self._now()
        if now >= certificate.not_valid_after_utc.timestamp():
            raise Refused("the certificate has expired; enrol again, and compare the clocks")
        record = await self._store.read(connectors.find, connector)
        if record is None:
            raise Refused("this connector is not enrolled here; enrol it again")
        if record.revoked is not None:
            raise Refused("this connector has been revoked; enrol it again if that was a mistake")
        if f"{certificate.serial_number:x}" != record.serial:
            await self._superseded(record, now)
        return record

    async def _superseded(self, record: ConnectorRecord, now: int) -> None:
        """An older certificate is shown: fine just after a renewal, else two hold one identity and neither may stay."""
        if now < record.not_after - _ISSUED_SECONDS + SUPERSEDED_SECONDS:
            return
        await self._store.write(connectors.revoke, record.id, now)
        self.log.critical(
            "connector {connector} ({name}) is revoked: its superseded certificate is in use, somebody has copied it",
            event="connector.copied",
            connector=record.id,
            name=record.name,
        )
        raise Refused("the certificate was superseded by another; the connector is revoked, enrol it again")

    async def reissue(self, record: ConnectorRecord, request: str) -> str:
        """The next certificate of an admitted connector, for the key in a PEM signing request; with its issuer's.

        :raises UnacceptableRequest: the signing request is malformed or its key weak.
        :raises Refused: the connector has been revoked meanwhile.
        """
        current = await self._store.read(connectors.find, record.id)
        if current is None or current.revoked is not None:
            raise Refused("this connector has been revoked")
        issued = self._authorities.issuing.certify_connector(request, record.id, self._now())
        if not await self._store.write(
            connectors.renew, record.id, current.generation, issued.serial, issued.not_after
        ):
            raise Refused("another renewal was faster; try again")
        self.log.info(
            "connector {connector} ({name}) got certificate {serial}, number {generation}",
            event="connector.renewed",
            connector=record.id,
            name=record.name,
            serial=issued.serial,
            generation=current.generation + 1,
        )
        return issued.pem.decode("ascii")


def read_certificate(der: bytes | None) -> x509.Certificate:
    """A peer's certificate; :raises Refused: there is none, or none that can be read."""
    if der is None:
        raise Refused("no client certificate; connectors enrol first")
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        raise Refused("the client certificate cannot be read") from None


def connector_of(certificate: x509.Certificate) -> str:
    """The id of the connector that a certificate of our authority was issued to.

    :raises Refused: it was issued for something else.
    """
    try:
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        raise Refused("the client certificate is not a connector's") from None
    if list(purposes) != [ExtendedKeyUsageOID.CLIENT_AUTH] or len(list(names)) != 1 or len(uris) != 1:
        raise Refused("the client certificate is not a connector's")
    if not uris[0].startswith(CONNECTOR_URI):
        raise Refused("the client certificate is not a connector's")
    return uris[0].removeprefix(CONNECTOR_URI)
