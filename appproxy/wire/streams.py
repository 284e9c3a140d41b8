"""The life of one stream, as a table from (state, input) to state.

A stream has two halves: *up* carries the request, *down* the answer.  The same table serves both sides; which inputs a
side may send and which it may only receive follows from who it is.  The five states of the specification (idle, open,
ended by us, ended by them, closed) are here split by whether the final answer has begun, so that one value says all.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from typing import Final

from appproxy.wire.windows import INITIAL_WINDOW, ReceiveWindow


class State(IntEnum):
    """Where a stream is."""

    IDLE = 0
    #: The request is coming; no final answer yet.
    ASKING = 1
    #: The request has ended; no final answer yet.
    ASKED = 2
    #: The request is coming and so is the answer.
    OPEN = 3
    #: The request has ended; the answer is coming.
    ANSWERING = 4
    #: The answer has ended before the request has.
    ANSWERED = 5
    CLOSED = 6


class Input(IntEnum):
    """What may happen to a stream.  ``UP_END`` and ``DOWN_END`` may bring the last bytes or the trailers."""

    REQUEST = 0
    UP = 1
    UP_END = 2
    INTERIM = 3
    ANSWER = 4
    DOWN = 5
    DOWN_END = 6
    RESET = 7


#: What is not here is a protocol error.
TABLE: Final[dict[tuple[State, Input], State]] = {
    (State.IDLE, Input.REQUEST): State.ASKING,
    (State.ASKING, Input.UP): State.ASKING,
    (State.ASKING, Input.UP_END): State.ASKED,
    (State.ASKING, Input.INTERIM): State.ASKING,
    (State.ASKING, Input.ANSWER): State.OPEN,
    (State.ASKED, Input.INTERIM): State.ASKED,
    (State.ASKED, Input.ANSWER): State.ANSWERING,
    (State.OPEN, Input.UP): State.OPEN,
    (State.OPEN, Input.UP_END): State.ANSWERING,
    (State.OPEN, Input.DOWN): State.OPEN,
    (State.OPEN, Input.DOWN_END): State.ANSWERED,
    (State.ANSWERING, Input.DOWN): State.ANSWERING,
    (State.ANSWERING, Input.DOWN_END): State.CLOSED,
    (State.ANSWERED, Input.UP): State.ANSWERED,
    (State.ANSWERED, Input.UP_END): State.CLOSED,
    **{(state, Input.RESET): State.CLOSED for state in State if state is not State.IDLE},
}
#: The same, indexed ``MOVES[state][input]``: a third of the time of a dictionary of pairs.
MOVES: Final = tuple(tuple(TABLE.get((state, happened)) for happened in Input) for state in State)
#: Where an answer leads that is sent at once: its head, then its end.
WHOLE: Final = tuple(
    None if (begun := moves[Input.ANSWER]) is None else MOVES[begun][Input.DOWN_END] for moves in MOVES
)
#: States in which the request half is still open.
UP_OPEN: Final = frozenset(state for state in State if (state, Input.UP) in TABLE)
#: States in which the answer may still bring something.
DOWN_OPEN: Final = frozenset({State.ASKING, State.ASKED, State.OPEN, State.ANSWERING})


class Stream:
    """One exchange, as one side of the channel sees it."""

    #: It has: both halves are bytes, without trailers.
    piped: bool = False
    #: Interim answers so far.
    interim: int = 0
    #: How many bytes the peer lets us send.
    credit: int = INITIAL_WINDOW
    #: It was told that there is no room, for want of its own credit.
    starved: bool = False
    #: Frames that have their credit and wait for their turn: (header, payload).
    queue: deque[tuple[bytes, bytes | memoryview]] | None = None
    #: What the peer may send; made when its first bytes arrive.
    window: ReceiveWindow | None = None

    def __init__(self, id: int, state: State = State.ASKING, upgrade: bool = False) -> None:
        self.id = id
        self.state = state
        #: The request may become a byte pipe.
        self.upgrade = upgrade
