"""The channel: Autobahn WebSockets carrying the frames of :mod:`appproxy.wire`, with flow control joined to sockets.

:mod:`~appproxy.channel.carrier` is the WebSocket with a short way for whole binary messages;
:mod:`~appproxy.channel.protocol` is the channel itself (batching, liveness, dispatch to streams);
:mod:`~appproxy.channel.stream` is one exchange in it, a Twisted consumer and push producer;
:mod:`~appproxy.channel.listen` and :mod:`~appproxy.channel.dial` are the two ends.
"""
