"""How long to wait before the next attempt at a relay: exponential, with full jitter, and never for ever.

The first attempt after a loss comes within a second, so that a connector is back soon after a relay was restarted.
While an outage is young the wait stays below four seconds: a relay that was away for a minute has its connectors back
within five seconds of its return.  Then the ceiling grows with the outage, to a minute, so that a thousand connectors
do not hammer at a relay that is gone for long.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait after so many failures in a row.

    :ivar first: the most that the first wait takes; each further one may take twice as long.
    :ivar quick_ceiling: no wait is longer while the outage is younger than 30 times this.
    :ivar ceiling: no wait is ever longer.
    """

    first: float = 1.0
    quick_ceiling: float = 4.0
    ceiling: float = 60.0

    def delay(
        self, failures: int, outage_seconds: float, random: Callable[[], float], *, hopeless: bool = False
    ) -> float:
        """The next wait.

        :param failures: attempts that failed since the loss.
        :param outage_seconds: how long ago the last good channel was lost, or the first attempt was made.
        :param random: a number from 0 to 1.
        :param hopeless: the relay answered and refused: only an administrator can mend it, so there is no hurry.
        """
        most = self.ceiling if hopeless else min(self.ceiling, max(self.quick_ceiling, outage_seconds / 30))
        return random() * min(most, self.first * 2.0 ** min(failures, 16))
