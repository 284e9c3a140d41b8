"""The journey of one request through the connector: read :meth:`Serving.serve` from top to bottom."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from appproxy.channel.protocol import Channel
from appproxy.channel.stream import Stream
from appproxy.connector.assignments import Assigned, Assignments
from appproxy.connector.carriage import Carriage
from appproxy.connector.deadlines import Deadlines, Limit
from appproxy.connector.exchange import Asked, RequestBody
from appproxy.connector.failures import ExchangeTimeout, MalformedRequest, OriginNotHTTP, reset_code
from appproxy.connector.origin import Origins
from appproxy.connector.places import Place
from appproxy.connector.pool import Pool
from appproxy.connector.proving import Signing, UserPools, ask_signed
from appproxy.connector.reservations import Reservations
from appproxy.connector.rewriting import RewrittenAnswer
from appproxy.connector.upgrade import BytePipes
from appproxy.errors import AppproxyError, Phase, Side
from appproxy.http import messages
from appproxy.http.messages import TUNNEL_METHODS, Field, FieldLines, is_token
from appproxy.http.rewriting import MULTISTATUS, rewritten_fields
from appproxy.sso.kerberos import KerberosSignOn, Signer
from appproxy.sso.negotiate import without_challenges
from appproxy.tasks import Tasks
from appproxy.wire.frames import Code
from appproxy.wire.heads import CONNECTOR, RequestHead, ResponseHead

#: Told of every finished exchange: its request head, the answer's status (0: none), bytes up and down, seconds, and
#: what went wrong in a word.
Record = Callable[[RequestHead, int, int, int, float, str], None]


class Serving:
    """Serves the streams of all channels: their opener.

    :param record: writes the access records.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self, assignments: Assignments, origins: Origins, clock: Any, deadlines: Deadlines, record: Record
    ) -> None:
        self._assignments = assignments
        self._deadlines = deadlines
        self._origins = origins
        self._clock = clock
        self._record = record
        self._tasks = Tasks()
        #: Connections that belong to one client each.
        self.reservations = Reservations()
        self._users = UserPools()
        #: Exchanges under way.
        self.journeys: set[Carriage] = set()

    def stream_opened(self, stream: Stream, head: RequestHead, end: bool, upgrade: bool) -> None:
        """channel.stream.Opener: a request arrived."""
        stream.receiver = carriage = Carriage(stream, head, end)
        self.journeys.add(carriage)
        carriage.journey = self._tasks.spawn("journey", self.serve(carriage, upgrade))

    def channel_lost(self, channel: Channel) -> None:
        """channel.stream.Opener: a channel is gone."""
        self.reservations.channel_lost(channel)

    async def serve(self, carriage: Carriage, upgrade: bool) -> None:
        """Take one request to its origin and the answer back, whatever happens, and leave one access record."""
        began, cause = self._clock.seconds(), ""
        head, stream = carriage.head, carriage.stream
        try:
            packed = head.packed
            application = self._assignments.get(packed.standing.application)
            _check(head)
            prepared = packed.note
            if prepared is None or prepared.application is not application:
                prepared = await _prepare(head, application)
            place, signer = prepared.place, prepared.signer
            pool = place.pool
            if head.affinity or prepared.apart or head.method in TUNNEL_METHODS:
                pool = self._pool_apart(carriage, prepared)
            carriage.sso, carriage.translation = application.sso, place.translation
            body = None if upgrade else carriage.body
            if head.length and body is None:
                raise MalformedRequest("a length without a body")

            if signer is None:
                response = await self._send(carriage, prepared, pool, body, upgrade)
                fields = _framed_once(response.head)
            else:
                send = partial(self._send, carriage, prepared, pool, body, upgrade)
                response = await ask_signed(signer, send, carriage)
                fields = without_challenges(_framed_once(response.head))

            answer = response.head
            carriage.status = answer.status
            down = ResponseHead(answer.status, answer.reason, place.translation.down(fields, answer.known))
            rewriting, rewritten = place.rewriting, None
            if rewriting is not None and (rewriting.bodies or answer.status == MULTISTATUS):
                rewritten = rewriting.find(answer)
                if rewritten is not None:
                    down.fields = rewritten_fields(down.fields)
            if response.switched:
                stream.answer(down, upgrade=True)
                await BytePipes(stream, response).join(response, carriage.take_held(), carriage.ended)
            elif rewritten is not None and head.method != b"HEAD":
                carriage.drop_body()
                await RewrittenAnswer(stream, rewritten, self._clock).send(down, response)
            elif response.ended:
                carriage.answer_whole(down, response)
            else:
                stream.answer(down)
                await carriage.deliver(response)
        except Exception as failure:
            cause = self._failed(carriage, failure)
        finally:
            self.journeys.discard(carriage)
            if carriage.limit is not None:
                carriage.limit.stop()
            seconds = self._clock.seconds() - began
            self._record(head, carriage.status, stream.bytes_received, stream.bytes_sent, seconds, cause)

    def _pool_apart(self, carriage: Carriage, prepared: Prepared) -> Pool:
        """The connections that are this client's, or this user's, alone.

        :raises MalformedRequest: they have to be a client's, and it does not say of which.
        """
        head, pool, signer = carriage.head, prepared.place.pool, prepared.signer
        if head.affinity:
            return self.reservations.pool(carriage.stream.channel, head.affinity, pool)
        if signer is None or prepared.pinned or head.method in TUNNEL_METHODS:
            raise MalformedRequest("no client connection to pin it to")
        return self._users.pool(pool, signer.user.text)

    def _send(
        self,
        carriage: Carriage,
        prepared: Prepared,
        pool: Pool,
        body: RequestBody | None,
        upgrade: bool,
        sign: Signing | None = None,
    ) -> Asked:
        """Ask the origin; awaited, it gives the answer as it begins."""
        head = carriage.head
        identifier = head.request_id
        more = [(b"X-Request-ID", identifier.encode("utf-8"))] if identifier else ()
        target = prepared.place.translation.target_up(head.target)
        asked = Asked(pool, head.method, target, prepared.lines, carriage.interim_received, head.length, more, upgrade)
        asked.sign = sign
        if head.method in TUNNEL_METHODS:
            asked.patience = max(pool.first_byte, pool.idle)
        elif pool.total and not upgrade:
            if carriage.limit is not None:
                carriage.limit.stop()
            carriage.limit = Limit(self._deadlines, pool.total, partial(_overrun, asked, pool))
        return self._origins.ask(asked, body)

    def _failed(self, carriage: Carriage, failure: Exception) -> str:
        """Tell the relay and the log that a journey ended before its time; the word for its access record."""
        if isinstance(failure, CancelledError):
            return "cancelled"
        if not isinstance(failure, AppproxyError):
            self.log.failure("{request} failed inside the connector", request=carriage.head.request_id)
            carriage.stream.reset(Code.INTERNAL, "the connector failed")
            return "internal"
        self.log.warn(
            "{request} for {application}: {code} in {phase}: {detail}",
            event="exchange.failed",
            request=carriage.head.request_id,
            application=carriage.head.standing.application,
            code=failure.code,
            phase=str(failure.phase),
            detail=failure.detail,
        )
        _tell(carriage, failure)
        return failure.code


def _overrun(asked: Asked, pool: Pool) -> None:
    asked.give_up(ExchangeTimeout(f"{pool.name}: longer than {pool.total:g} s in all"))


def _tell(carriage: Carriage, failure: AppproxyError) -> None:
    """Say why there is no answer, or no more of it: what has a name of its own as an answer, all else as a code."""
    stream = carriage.stream
    if (failure.side is Side.CLIENT or failure.phase is Phase.SSO) and not carriage.status:
        carriage.status = failure.status
        carriage.drop_body()
        fields = [(b"Content-Length", b"0")]
        code = reset_code(failure) if failure.phase is Phase.SSO else 0
        head = ResponseHead(failure.status, b"", fields, CONNECTOR, code, failure.code, str(failure.phase))
        stream.answer(head, end=True)
    else:
        late = carriage.status and isinstance(failure, OriginNotHTTP)
        stream.reset(Code.ORIGIN_BROKE_OFF if late else reset_code(failure), type(failure).__doc__ or "")


class Prepared:
    """What the standing part of a request comes to for its origin, kept with it for the requests that share it.

    :ivar pinned: each client has a connection for itself; *apart*: or each user at least.
    """

    __slots__ = ("apart", "application", "lines", "pinned", "place", "signer")

    def __init__(self, application: Assigned, place: Place, lines: FieldLines, signer: Signer | None) -> None:
        self.application = application
        self.signer = signer
        self.pinned = application.application.origin.pinned
        self.apart = self.pinned or signer is not None
        self.place = place
        self.lines = lines


async def _prepare(head: RequestHead, application: Assigned) -> Prepared:
    """Translate and sign on; :raises AppproxyError: this cannot be asked of the origin."""
    standing = head.standing
    place = application.place(standing.host, standing.segment)
    fields = await application.sso.sign_on(standing.identity, place.fields_up(standing.fields))
    sso, signer = application.sso, None
    if isinstance(sso, KerberosSignOn):
        signer = sso.signer(standing.identity, place.translation.internal, standing.segment)
    prepared = Prepared(application, place, FieldLines(fields), signer)
    if application.sso.lasting:
        head.packed.note = prepared
    return prepared


def _check(head: RequestHead) -> None:
    """The relay may be hostile too; fields are checked where they are written.

    :raises MalformedRequest: method or target are none for an origin.
    """
    method, target = head.method, head.target
    if not is_token(method) or method == b"CONNECT":
        raise MalformedRequest("the method is none for an origin")
    if not target.startswith(b"/") and (target != b"*" or method != b"OPTIONS"):
        raise MalformedRequest("the target is not in origin form")
    if not target.isascii():
        raise MalformedRequest("the target is not ASCII")


def _framed_once(answer: messages.ResponseHead) -> list[Field]:
    """An answer's fields; a length that the origin said several times, the same each time, is said once.

    Hop-by-hop fields stay: the relay, which trusts no connector, takes them out and reads the length.
    """
    lengths = answer.known.get(b"content-length")
    if lengths is None or len(lengths) == 1:
        return answer.fields
    kept = [field for field in answer.fields if field[0].lower() != b"content-length"]
    return [*kept, (b"Content-Length", lengths[0])]
