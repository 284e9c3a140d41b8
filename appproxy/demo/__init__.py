"""The quick start: relay, connector, identity provider and an intranet on one machine; ``python -m appproxy.demo``.

:mod:`~appproxy.demo.__main__` tells the story; :mod:`~appproxy.demo.settings` writes the configuration files from the
``.toml`` templates here; :mod:`~appproxy.demo.children` keeps the processes; :mod:`~appproxy.demo.intranet` is the
internal web server.
"""
