"""The connector: it dials out to relays, and carries the requests that come back to the origins beside it.

:mod:`~appproxy.connector.serve` tells the journey of one request in one coroutine.  What it calls:
:mod:`~appproxy.connector.assignments` know the applications, :mod:`~appproxy.connector.origin` asks with treq,
:mod:`~appproxy.connector.pool` and :mod:`~appproxy.connector.connection` are under it,
:mod:`~appproxy.connector.carriage` and :mod:`~appproxy.connector.upgrade` move the bytes.  Beside it,
:mod:`~appproxy.connector.dialing` keeps the channels up, :mod:`~appproxy.connector.enrolment` gets the certificate for
them, and :mod:`~appproxy.connector.service` assembles it all.
"""
