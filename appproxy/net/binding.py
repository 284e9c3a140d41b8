"""Opening the sockets that :mod:`appproxy.net.listen` accepts from, with remedies for what commonly goes wrong."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import MutableMapping
from contextlib import suppress
from pathlib import Path

from twisted.python.systemd import ListenFDs

from appproxy.config.listening import ListenAddress
from appproxy.errors import ConfigError

#: Connections that the kernel completes before we accept them.
BACKLOG = 1024


def open_socket(
    address: ListenAddress, where: str, *, mode: int = 0o660, environ: MutableMapping[str, str] | None = None
) -> socket.socket:
    """Return a listening, non-blocking socket for *address*.

    :param where: the setting to blame, for instance ``listen.clients``.
    :param mode: of a Unix socket's file.
    :param environ: where systemd's ``LISTEN_FDS`` are; the process's environment by default.
    :raises ConfigError: it cannot be had; says what to do.
    """
    if address.kind == "unix":
        listening = _open_unix(Path(address.path), where, mode)
    elif address.kind == "systemd":
        listening = _adopt(address.name, where, environ if environ is not None else os.environ)
    else:
        listening = _open_tcp(address.host, address.port, where)
    listening.setblocking(False)
    return listening


def _open_tcp(host: str, port: int, where: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host or (not host and socket.has_dualstack_ipv6()) else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # All addresses means those of IPv4 too.
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(bool(host)))
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(where, _remedy(error, host, port, where)) from None
    return listening


def _remedy(error: OSError, host: str, port: int, where: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken by another program; stop it or choose another in {where}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"port {port} is reserved for privileged programs; grant CAP_NET_BIND_SERVICE "
            "(systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), use systemd:name=..., or choose one above 1023"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"this machine has no address {host}; choose one of its own, or none to listen on all"
    return f"cannot listen on {host or 'all addresses'} port {port}: {error.strerror or error}"


def _open_unix(path: Path, where: str, mode: int) -> socket.socket:
    _remove_stale(path, where)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode must hold from the first moment: whoever connects before a chmod stays connected.
    mask = os.umask(0o777 & ~mode)
    try:
        listening.bind(str(path))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(where, f"cannot listen on {path}: {error.strerror or error}") from None
    finally:
        os.umask(mask)
    return listening


def _remove_stale(path: Path, where: str) -> None:
    """Remove what a program that was killed left behind; leave alone what somebody uses or what is no socket."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise ConfigError(where, f"{path} exists and is not a socket; remove it or choose another path")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigError(where, f"cannot listen on {path}: {error.strerror}") from None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                path.unlink()
            return
        except OSError as error:
            raise ConfigError(where, f"{path} cannot be examined: {error.strerror or error}") from None
    raise ConfigError(where, f"{path} is used by another program; stop it or choose another path in {where}")


def _adopt(name: str, where: str, environ: MutableMapping[str, str]) -> socket.socket:
    """Take the socket that systemd opened for us under *name*."""
    pid, count = environ.get("LISTEN_PID"), environ.get("LISTEN_FDS")
    given = ListenFDs.fromEnvironment(environ).inheritedNamedDescriptors()
    if pid is not None and count is not None:  # taken away, but a second name may be asked for
        environ["LISTEN_PID"], environ["LISTEN_FDS"] = pid, count
    if name not in given:
        known = ", ".join(sorted(given)) or "none at all"
        raise ConfigError(where, f"systemd passed no socket named {name!r} ({known}); see FileDescriptorName=")
    descriptor = given[name]
    os.set_inheritable(descriptor, False)
    try:
        adopted = socket.socket(fileno=os.dup(descriptor))
    except OSError as error:
        raise ConfigError(where, f"what systemd passed as {name!r} is not a socket: {error.strerror}") from None
    if adopted.type != socket.SOCK_STREAM or not adopted.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        adopted.close()
        raise ConfigError(where, f"what systemd passed as {name!r} is not a listening stream socket")
    return adopted
