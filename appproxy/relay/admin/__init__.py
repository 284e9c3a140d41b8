"""The administration of a relay: JSON over HTTP, on a Unix socket that only its owner can open.

:class:`~appproxy.relay.admin.api.Admin` finds the operation and turns what goes wrong into problem documents (RFC 9457)
with ``where`` and ``problem``; the other modules are the operations.  Whoever can open the socket is trusted; a browser
on the same machine is not, and is refused whatever page it shows.
"""

from appproxy.relay.admin.api import Admin

__all__ = ["Admin"]
