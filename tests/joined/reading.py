"""A plain reader of HTTP/1 messages, independent of the product's: it trusts what it reads and judges nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

Field = tuple[bytes, bytes]


@dataclass
class Message:
    """A request or a final answer as it came.

    :ivar start: the three parts of the first line.
    :ivar interim: 1xx answers before it.
    :ivar complete: its end has come, as its framing says.
    """

    start: tuple[bytes, bytes, bytes]
    fields: list[Field]
    interim: list[Message] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    trailers: list[Field] = field(default_factory=list)
    complete: bool = False

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.start[1])

    def values(self, name: bytes) -> list[bytes]:
        """All values of one field."""
        return [value for each, value in self.fields if each.lower() == name.lower()]


def read_lines(block: bytes) -> list[Field]:
    """Field lines, each with its CRLF."""
    pairs = [line.split(b":", 1) for line in block.split(b"\r\n") if line]
    return [(name, value.strip(b" \t")) for name, value in pairs]


class MessageReader:
    """Takes octets apart into messages.

    :param methods: of the requests that the messages answer, in order; None where the messages are requests.
    :ivar messages: all so far; the last one may still be coming.
    """

    def __init__(self, methods: deque[bytes] | None = None) -> None:
        self.messages: list[Message] = []
        #: 1xx answers that came after the last message.
        self.interim: list[Message] = []
        #: After a 101: what is no HTTP any more.
        self.piped: bytearray | None = None
        self._methods = methods
        self._held = bytearray()
        self._current: Message | None = None
        self._read_body: Callable[[], bool] = self._until_close
        self._left = 0

    @property
    def between(self) -> bool:
        """Whether every message is complete."""
        return self._current is None and not self._held

    def feed(self, data: bytes) -> None:
        """Some octets came."""
        if self.piped is not None:
            self.piped += data
            return
        self._held += data
        while self._step():
            pass

    def close(self) -> None:
        """There will be no more."""
        if self._current is not None and self._read_body == self._until_close:
            self._ended()

    def _step(self) -> bool:
        return self._read_head() if self._current is None else self._read_body()

    def _read_head(self) -> bool:
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = bytes(self._held[: end + 2])
        del self._held[: end + 4]
        line, _, block = head.partition(b"\r\n")
        first, second, *third = line.split(b" ", 2)
        message = Message((first, second, third[0] if third else b""), read_lines(block))
        if self._methods is None:
            self._begin(message, b"", False)
        elif message.status == 101:
            message.interim, self.interim = self.interim, []
            message.complete = True
            self.messages.append(message)
            self.piped, self._held = self._held, bytearray()
            return False
        elif message.status < 200:
            self.interim.append(message)
        else:
            message.interim, self.interim = self.interim, []
            method = self._methods.popleft()
            self._begin(message, method, method == b"HEAD" or message.status in (204, 304))
        return True

    def _begin(self, message: Message, method: bytes, bodiless: bool) -> None:
        self.messages.append(message)
        self._current = message
        lengths = message.values(b"content-length")
        if bodiless:
            self._ended()
        elif message.values(b"transfer-encoding"):
            self._read_body, self._left = self._chunks, 0
        elif lengths or self._methods is None:
            self._read_body, self._left = self._counted, int(lengths[0]) if lengths else 0
        else:
            self._read_body = self._until_close

    def _ended(self) -> None:
        assert self._current is not None
        self._current.complete = True
        self._current = None

    def _take(self, size: int) -> None:
        assert self._current is not None
        self._current.body += self._held[:size]
        del self._held[:size]

    def _counted(self) -> bool:
        size = min(self._left, len(self._held))
        self._left -= size
        self._take(size)
        if self._left:
            return False
        self._ended()
        return True

    def _until_close(self) -> bool:
        self._take(len(self._held))
        return False

    def _chunks(self) -> bool:
        assert self._current is not None
        if self._left:  # of a chunk and the CRLF after it
            size = min(self._left - 2, len(self._held))
            self._left -= size
            self._take(size)
            if self._left > 2 or len(self._held) < 2:
                return False
            self._left = 0
            del self._held[:2]
        end = self._held.find(b"\r\n")
        if end < 0:
            return False
        if size := int(self._held[:end].partition(b";")[0], 16):
            del self._held[: end + 2]
            self._left = size + 2
            return True
        if self._held[end : end + 4] == b"\r\n\r\n":
            stop = end + 2
        else:
            stop = self._held.find(b"\r\n\r\n", end) + 2
            if stop < 2:
                return False
        self._current.trailers = read_lines(bytes(self._held[end + 2 : stop]))
        del self._held[: stop + 2]
        self._ended()
        return True
