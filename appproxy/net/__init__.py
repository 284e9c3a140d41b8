"""Sockets under Twisted's interfaces: listening, dialling, TLS, and a transport that writes at once.

The two doors are :mod:`~appproxy.net.listen` and :mod:`~appproxy.net.dial`; bytes go by
:mod:`~appproxy.net.transport`, under TLS by :mod:`~appproxy.net.secure`; :mod:`~appproxy.net.certificates` keeps a
folder of certificates.
"""
