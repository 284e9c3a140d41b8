"""Everything about the distribution stands in setup.cfg; here is what can be compiled to machine code.

``APPPROXY_COMPILE=1 pip install .`` has mypyc compile the modules that every request passes through: a request then
costs a fifth less.  It takes a C compiler, the headers of Python and a minute.  Without it everything is interpreted
and does the same.
"""

import os
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

#: The modules of a request's journey.  What each of them must keep to is told in docs/design/compiling.rst.
COMPILED = """
    channel: protocol stream
    connector: carriage connection deadlines exchange origin pool serve
    http: bodies cookies guard hops messages requesting serving translate
    logs: access escaping
    net: readiness secure sockets transport
    relay: catalog exchange gateway relaying upward
    relay/connectors: attachments
    relay/front: client_exchange http1
    wire: connection misuse receiving writing
    : tasks
"""


def _sources() -> list[str]:
    lines = [line.partition(":") for line in COMPILED.split("\n") if line.strip()]
    return [str(Path("appproxy", room.strip(), f"{name}.py")) for room, _, names in lines for name in names.split()]


def _compiled() -> dict[str, object]:
    """What setuptools has to know to compile; nothing unless it is asked for."""
    if os.environ.get("APPPROXY_COMPILE", "0") in ("", "0"):
        return {}
    try:
        from mypyc.build import mypycify
    except ImportError:  # asked only what is needed for the build, which is the same and its compiler
        settings = ConfigParser()
        settings.read("setup.cfg")
        needed = settings["options"]["install_requires"].strip().splitlines()
        return {"setup_requires": ["mypy >= 2.4", *needed]}
    return {
        "ext_modules": mypycify(_sources(), opt_level="2", debug_level="0", multi_file=True),
        "options": {"build_ext": {"parallel": os.cpu_count()}},
    }


setup(**_compiled())
