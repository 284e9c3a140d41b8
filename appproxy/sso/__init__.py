"""Single sign-on: how the origin is told who the user is, one module a method.

A :class:`~appproxy.sso.method.Method` is made once for each application and used for each of its requests.
"""
