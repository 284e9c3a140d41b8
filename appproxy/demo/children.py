"""The demo's processes: started, watched, ended together."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: A program that is not ready within this time never will be.
READY_SECONDS = 30.0
#: How long a program may take to finish what is in flight when it is told to end.
END_SECONDS = 15.0
LOOK_SECONDS = 0.1
#: How much of a log is shown when its program died.
LAST_LINES, LINE_CHARACTERS = 15, 200
_PR_SET_PDEATHSIG = 1


class ChildDied(Exception):
    """A process ended or did not become ready; the message says which, and its last words."""


class Child:
    """One process, with its output in ``NAME.log``."""

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                arguments,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us, who then end them in order
                preexec_fn=_end_with_parent,
            )

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def look(self) -> None:
        """See that it runs; :raises ChildDied: it does not."""
        code = self._process.poll()
        if code is not None:
            how = f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
            raise ChildDied(f"{self.name} ended {how}; {self.last_words()}")

    def last_words(self) -> str:
        """The last lines of its log."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LAST_LINES:]
        return "\n  ".join([f"the end of {self.log}:", *(line[:LINE_CHARACTERS] for line in lines)])

    def tell_to_end(self) -> None:
        """Ask it to finish."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def wait_for_end(self, deadline: float) -> None:
        """Give it until *deadline* (``time.monotonic``), then end it."""
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Children:
    """All processes, in the order they were started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Child] = []

    def start(self, name: str, arguments: Sequence[str], ready: Callable[[], bool]) -> Child:
        """Start one and wait until it is *ready*.

        :raises ChildDied: it, or another one, ended meanwhile, or it took too long.
        """
        child = Child(name, arguments, self._folder)
        self._all.append(child)
        deadline = time.monotonic() + READY_SECONDS
        while True:
            self.look()
            if ready():
                return child
            if time.monotonic() > deadline:
                raise ChildDied(f"{name} is not ready after {READY_SECONDS:g} s; {child.last_words()}")
            time.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """See that all run; :raises ChildDied: one does not."""
        for child in self._all:
            child.look()

    def watch(self) -> None:
        """Wait until one ends; :raises ChildDied: saying which."""
        while True:
            self.look()
            time.sleep(LOOK_SECONDS)

    @contextmanager
    def ended_at_last(self) -> Iterator[None]:
        """Whatever happens inside, no process is left behind: the last started ends first."""
        try:
            yield
        finally:
            deadline = time.monotonic() + END_SECONDS
            for child in reversed(self._all):
                child.tell_to_end()
            for child in reversed(self._all):
                child.wait_for_end(deadline)


def _end_with_parent() -> None:
    """In the new process: end when the demo is killed, as far as the system can do that."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    except (AttributeError, OSError):
        return
