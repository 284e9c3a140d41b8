"""The channel protocol, sans-I/O: bytes in, events out; no sockets and nothing of Twisted.

- :mod:`~appproxy.wire.frames`, :mod:`~appproxy.wire.heads`, :mod:`~appproxy.wire.control`: what the bytes look like;
- :mod:`~appproxy.wire.streams`: the life of one stream, as a table; :mod:`~appproxy.wire.windows`: credit;
- :mod:`~appproxy.wire.connection`: one end of a channel, with :mod:`~appproxy.wire.events` as what it tells,
  :mod:`~appproxy.wire.limits` as what it tolerates and :mod:`~appproxy.wire.misuse` as what it raises.
"""
