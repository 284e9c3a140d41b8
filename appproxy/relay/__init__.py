"""The relay: a request's journey is in :mod:`~appproxy.relay.gateway`, the assembly in :mod:`~appproxy.relay.service`.

:mod:`~appproxy.relay.front` turns clients' bytes into exchanges; :mod:`~appproxy.relay.preauth` and
:mod:`~appproxy.relay.signin` find out who asks; :mod:`~appproxy.relay.channels` keeps the connectors' channels;
:mod:`~appproxy.relay.admin` answers the ``appproxy`` command.
"""
