"""How much of everything one peer may ask for; each number with its reason."""

from __future__ import annotations

import msgspec

from appproxy.wire.frames import MAX_STREAM


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of one channel.  A rate is (a second, at once)."""

    #: Streams open at the same time.
    max_streams: int = 1000
    #: New streams; beyond it they are refused.  One channel of two busy cores carries less.
    openings: tuple[float, float] = (20_000, 4_000)
    #: RESETs that the peer sends or provokes: all of a full channel at once, twice, is what a restart of clients costs.
    resets: tuple[float, float] = (500, 2_000)
    #: Credit: a gigabyte a second in the smallest steps.
    windows: tuple[float, float] = (20_000, 20_000)
    #: PINGs, empty DATA, frames of unknown kinds: liveness needs one in ten seconds, waking writers one a round trip.
    trifles: tuple[float, float] = (200, 1_000)
    #: Documents: assignments and health change by hand or by the second.
    documents: tuple[float, float] = (20, 200)
    #: GOAWAYs in a channel's life: a warning, the last word, and some for peers that repeat themselves.
    max_goaways: int = 8
    #: Interim answers of one stream: 100, 102 and 103 with some repetition.
    max_interim: int = 32
    #: Streams that we reset and whose frames may still be under way; then they are forgotten.
    max_remembered: int = 4096
    #: Bytes that the peer made us queue (answers to PINGs, RESETs) while it does not read.
    max_forced_bytes: int = 256 * 1024
    #: Ids are not used twice: after this one the channel is replaced.
    last_stream: int = MAX_STREAM
