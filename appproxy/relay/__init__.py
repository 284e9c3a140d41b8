"""The relay: a request's journey is in :mod:`~appproxy.relay.gateway`, the assembly in :mod:`~appproxy.relay.service`.

The rooms: :mod:`~appproxy.relay.front` turns clients' bytes into exchanges; :mod:`~appproxy.relay.people` and
:mod:`~appproxy.relay.programs` know who asks, by what :mod:`~appproxy.relay.preauth` finds out of providers;
:mod:`~appproxy.relay.access` says what they may; :mod:`~appproxy.relay.connectors` keeps the channels;
:mod:`~appproxy.relay.admin` answers the ``appproxy`` command.
"""
