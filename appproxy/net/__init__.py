"""Sockets under Twisted's interfaces: listening, dialling, TLS, and a transport that writes at once.

:mod:`~appproxy.net.listen` and :mod:`~appproxy.net.dial` are the two doors; :mod:`~appproxy.net.transport` carries bytes
in the clear, :mod:`~appproxy.net.secure` under TLS; :mod:`~appproxy.net.certificates` keeps a folder of certificates.
"""
