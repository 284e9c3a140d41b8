"""HTTP/1.x without sockets: strict readers, safe writers, and what a gateway has to know about fields and addresses.

- a client's connection: :mod:`~appproxy.http.serving`; an origin's: :mod:`~appproxy.http.requesting`;
  what both are made of: :mod:`~appproxy.http.messages` (heads) and :mod:`~appproxy.http.bodies` (framing);
- what ends at each hop: :mod:`~appproxy.http.hops`, :mod:`~appproxy.http.cookies`, and, last before the client,
  :mod:`~appproxy.http.guard`;
- where things are: :mod:`~appproxy.http.addresses` (one reading of hosts and paths), :mod:`~appproxy.http.translate`.
"""
