"""appproxy: publish internal web applications through connectors that only dial out.

The map of the code:

- values: :mod:`~appproxy.errors`, :mod:`~appproxy.identity`, :mod:`~appproxy.applications`, :mod:`~appproxy.units`;
- bytes in, values out, no sockets: :mod:`~appproxy.wire` (the channel protocol), :mod:`~appproxy.http`;
- sockets: :mod:`~appproxy.net`; the channel over Autobahn: :mod:`~appproxy.channel`; the store: :mod:`~appproxy.store`;
- what the origin is told about the user: :mod:`~appproxy.sso`;
- the two programs: :mod:`~appproxy.relay` (read ``gateway``), :mod:`~appproxy.connector` (read ``serve``);
- what people type: :mod:`~appproxy.cli`; and to try it out: :mod:`~appproxy.devidp`, :mod:`~appproxy.demo`.
"""

__version__ = "0.1.0"
