"""Everything about the distribution stands in setup.cfg; here is what can be compiled to machine code.

``APPPROXY_COMPILE=1 pip install .`` has mypyc compile the modules that every request passes through: a request then
costs a fifth less.  It takes a C compiler, the headers of Python and a minute.  Without it everything is interpreted
and does the same.
"""

import os
import shlex
import subprocess
import sys
import sysconfig
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent
#: The modules of a request's journey.  What each of them must keep to is told in docs/design/compiling.rst.
COMPILED = """
    channel: protocol stream
    connector: carriage connection deadlines exchange pool serve
    http: bodies cookies guard hops messages requesting serving translate
    logs: access escaping
    net: readiness secure sockets transport
    relay: catalog exchange gateway relaying upward
    relay/access: policy
    relay/connectors: attachments
    relay/front: client_exchange http1
    relay/people: sessions
    wire: allowance connection frames heads misuse receiving streams windows writing
    : tasks
"""
#: mypyc is part of it.  The next major version may find other mistakes.
COMPILER = "mypy >= 2.4, < 3"


def read_sources() -> list[str]:
    """The paths of the modules that are compiled."""
    lines = [line.partition(":") for line in COMPILED.split("\n") if line.strip()]
    return [str(Path("appproxy", room.strip(), f"{name}.py")) for room, _, names in lines for name in names.split()]


def find_lack() -> str:
    """What this machine lacks to compile, and how Debian has it; nothing if it lacks nothing."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    includes = [f"-I{sysconfig.get_path(each)}" for each in ("include", "platinclude")]
    remedy = f"apt-get install gcc libc6-dev {python}-dev"
    try:
        tried = subprocess.run(
            [*compiler, "-fsyntax-only", *includes, "-xc", "-"],
            input="#include <Python.h>\n", capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return f"there is no C compiler, {compiler[0]}: {remedy}"
    if tried.returncode == 0:
        return ""
    if "Python.h" in tried.stderr:
        return f"the headers of {python} are missing: {remedy}"
    return f"{compiler[0]} does not compile C ({next(iter(tried.stderr.splitlines()), 'without a word')}): {remedy}"


class Compile(build_ext):
    """Turn Python into C with mypyc and compile that; nothing of it happens when only metadata are asked for."""

    def run(self) -> None:
        """Compile; :raises SystemExit: it cannot or must not be."""
        if self.inplace or self.editable_mode:
            raise SystemExit(
                "appproxy is not compiled among its sources, where the result would hide later changes: "
                "unset APPPROXY_COMPILE for an editable install"
            )
        if lack := find_lack():
            raise SystemExit(f"appproxy cannot be compiled: {lack}; or install it without APPPROXY_COMPILE")
        try:
            from mypyc.build import mypycify
        except ImportError:
            raise SystemExit(f"appproxy cannot be compiled: mypyc is missing: pip install '{COMPILER}'") from None
        self.distribution.ext_modules = mypycify(
            read_sources(),
            opt_level="2",
            debug_level="0",
            multi_file=True,
            target_dir=self.build_temp,
            group_name="appproxy",
        )
        self.distribution.reinitialize_command(self)
        self.ensure_finalized()
        super().run()
        self._remove_others()

    def _remove_others(self) -> None:
        """Remove what an earlier build compiled and this one did not: it would hide the module's source."""
        built = {Path(each).resolve() for each in self.get_outputs()}
        for path in Path(self.build_lib).resolve().rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}"):
            if path not in built:
                path.unlink()


def _compiled() -> dict[str, object]:
    """What setuptools has to know to compile; nothing unless it is asked for."""
    if os.environ.get("APPPROXY_COMPILE", "0") in ("", "0"):
        return {}
    needed: dict[str, object] = {}
    if find_spec("mypyc") is None:  # a build of its own asks first what it needs: types come from the dependencies
        settings = ConfigParser()
        settings.read(ROOT / "setup.cfg", "utf-8")
        needed["setup_requires"] = [COMPILER, *settings["options"]["install_requires"].strip().splitlines()]
    # Which extensions there are is known to mypyc only; that there are some makes the wheel one for this platform.
    return {"ext_modules": [Extension("appproxy__mypyc", [])], "cmdclass": {"build_ext": Compile}, **needed}


if __name__ == "__main__":
    setup(**_compiled())
