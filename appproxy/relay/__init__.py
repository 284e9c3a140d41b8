"""The relay: read :mod:`~appproxy.relay.gateway` for the journey of a request, :mod:`~appproxy.relay.service` for how it
is put together.

:mod:`~appproxy.relay.front` turns clients' bytes into exchanges; :mod:`~appproxy.relay.preauth` and
:mod:`~appproxy.relay.signin` find out who asks; :mod:`~appproxy.relay.channels` keeps the connectors' channels;
:mod:`~appproxy.relay.admin` answers the ``appproxy`` command.
"""
