"""Attachments: which channel carries the next stream."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from appproxy.relay.connectors.attachments import SPREAD_STREAMS, Attachment, Attachments
from tests.fakes.channels import Pair, RecordingReceiver


def attachment(connector: str, group: str = "hq", *channels: Any) -> Attachment:
    """A connector with these channels."""
    made = Attachment(connector, connector, group, boot="b", epoch=1, peer="p", since=0)
    made.channels.extend(channels)
    return made


def crowded(pair: Pair, streams: int) -> Any:
    """The relay's end of *pair* with so many streams under way."""
    pair.relay.streams.update({number: object() for number in range(1, streams + 1)})  # type: ignore[misc]
    return pair.relay


@pytest.mark.feature("CON-5")
class AttachmentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.attachments = Attachments()

    def test_nobody_is_here(self) -> None:
        """A group without a connector has no channel; neither has one whose connector has none that is usable."""
        self.assertIsNone(self.attachments.pick("hq"))
        pair = Pair()
        self.attachments.add(attachment("c-1", "hq", pair.relay))
        pair.relay.carrier_closed(1006, "cut")
        self.assertIsNone(self.attachments.pick("hq"))

    def test_moved_to_another_group(self) -> None:
        """R14: its channels carry the new group's streams and none of the old one's; nothing on them is touched."""
        pair = Pair()
        moved = attachment("c-1", "hq", crowded(pair, 3))
        self.attachments.add(moved)
        self.attachments.move(moved, "lab")
        self.assertIsNone(self.attachments.pick("hq"))
        self.assertIs(self.attachments.pick("lab"), pair.relay)
        self.assertEqual((moved.outstanding, self.attachments.of_group("hq")), (3, []))
        self.attachments.remove(moved)
        self.assertIsNone(self.attachments.pick("lab"))

    def test_only_its_own_group(self) -> None:
        """A group's streams go to that group's connectors only."""
        hq, lab = Pair(), Pair()
        self.attachments.add(attachment("c-1", "hq", hq.relay))
        self.attachments.add(attachment("c-2", "lab", lab.relay))
        self.assertIs(self.attachments.pick("lab"), lab.relay)
        self.assertIs(self.attachments.pick("hq"), hq.relay)
        self.assertEqual([each.connector for each in self.attachments.of_group("hq")], ["c-1"])
        self.assertEqual(self.attachments.of_group("none"), [])

    def test_least_outstanding(self) -> None:
        """Of several connectors the one with the least under way is taken, then the next."""
        busy, idle = Pair(), Pair()
        self.attachments.add(attachment("c-1", "hq", crowded(busy, 5)))
        self.attachments.add(attachment("c-2", "hq", crowded(idle, 1)))
        self.assertIs(self.attachments.pick("hq"), idle.relay)
        self.assertIs(self.attachments.pick("hq", frozenset({idle.relay})), busy.relay)
        self.assertIsNone(self.attachments.pick("hq", frozenset({idle.relay, busy.relay})))

    def test_one_channel_is_filled_before_the_next(self) -> None:
        """A connector's second channel is used only once the first is crowded; beyond that the least crowded."""
        first, second = Pair(), Pair()
        self.attachments.add(attachment("c-1", "hq", first.relay, second.relay))
        receiver = RecordingReceiver()
        first.request(receiver)
        self.assertIs(self.attachments.pick("hq"), first.relay)
        crowded(first, SPREAD_STREAMS)
        self.assertIs(self.attachments.pick("hq"), second.relay)
        crowded(second, SPREAD_STREAMS + 3)
        self.assertIs(self.attachments.pick("hq"), first.relay)

    def test_a_second_channel_when_the_first_was_tried(self) -> None:
        """HTTP-9: what one channel refused goes to another channel of the same connector, if that is all there is."""
        first, second = Pair(), Pair()
        self.attachments.add(attachment("c-1", "hq", first.relay, second.relay))
        self.assertIs(self.attachments.pick("hq", frozenset({first.relay})), second.relay)

    def test_another_connector_before_another_channel(self) -> None:
        """HTTP-9: what a connector refused goes to another connector first, however busy that is."""
        first, second, other = Pair(), Pair(), Pair()
        self.attachments.add(attachment("c-1", "hq", first.relay, second.relay))
        self.attachments.add(attachment("c-2", "hq", crowded(other, 9)))
        self.assertIs(self.attachments.pick("hq", frozenset({first.relay})), other.relay)
        self.assertIs(self.attachments.pick("hq", frozenset({first.relay, other.relay})), second.relay)

    def test_leaving_channels_are_passed_over(self) -> None:
        """A channel that is going away takes no new stream; the other one of the connector does."""
        first, second = Pair(), Pair()
        self.attachments.add(attachment("c-1", "hq", first.relay, second.relay))
        first.relay.going_away = True
        self.assertIs(self.attachments.pick("hq"), second.relay)

    def test_removing_one_that_was_replaced(self) -> None:
        """Removing an attachment that has a successor leaves the successor; removing twice does nothing."""
        old, new = attachment("c-1", "hq", Pair().relay), attachment("c-1", "hq", Pair().relay)
        self.attachments.add(old)
        self.attachments.remove(old)
        self.attachments.add(new)
        self.attachments.remove(old)
        self.assertIs(self.attachments.by_connector["c-1"], new)
        self.assertEqual(self.attachments.of_group("hq"), [new])
        self.assertIn("c-1 of hq, 1 channels", repr(new))
