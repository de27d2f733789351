"""What must hold of the interpreter when an execution starts, whatever earlier code did to it."""

import builtins
import fcntl
import io
import os
import sys
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Final, TextIO

from .outcome import RUNNER_FOLDER

PRIVATE_FD: Final = 200

_BUILTINS: Final = dict(vars(builtins))
_restore_builtins: Final = builtins.__dict__.update


def restore_builtins() -> None:
    """Puts replaced built-ins back; asyncio and the runner need them. Uses none itself."""
    _restore_builtins(_BUILTINS)


class Guard:
    """Keeps the standard streams, `__main__` and the environment."""

    def __init__(self, main: ModuleType) -> None:
        self._main = main
        self._spare = {fd: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, PRIVATE_FD) for fd in (0, 1, 2)}
        self._streams: tuple[TextIO, TextIO, TextIO] = (
            sys.stdin,
            sys.stdout,
            sys.stderr,
        )
        self._replaced: dict[str, str | None] = {}
        # Second copies of `sys` or `asyncio` would not work: what is taken out comes back.
        self._known = sys.modules
        self._modules = dict(sys.modules)
        warnings.showwarning = show_warning

    def enter(self, environment: Mapping[str, str]) -> None:
        """Before an execution: streams, `__main__`, and its environment entries."""
        for fd, spare in self._spare.items():
            try:
                os.fstat(fd)
            except OSError:
                os.dup2(spare, fd)
        self._reopen_closed_streams()
        sys.stdin, sys.stdout, sys.stderr = self._streams
        for name, module in self._modules.items():
            self._known.setdefault(name, module)
        sys.modules = self._known
        sys.modules["__main__"] = self._main
        for name, value in environment.items():
            self._replaced[name] = os.environ.get(name)
            os.environ[name] = value

    def leave(self) -> None:
        """After an execution: its output is in the pipes, its environment entries are gone."""
        restore_builtins()
        for stream in (sys.stdout, sys.stderr, *self._streams[1:]):
            try:
                stream.flush()
            except Exception:  # noqa: BLE001 — closed, or an object of the user's
                continue
        for name, value in self._replaced.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        self._replaced.clear()

    def write_stderr(self, text: str) -> None:
        """Writes to the real stderr, past whatever `sys.stderr` is now."""
        data = memoryview(text.encode("utf-8", "backslashreplace"))
        while data:
            data = data[os.write(self._spare[2], data) :]

    def _reopen_closed_streams(self) -> None:
        stdin, stdout, stderr = self._streams
        # `exit()` closes sys.stdin.
        if stdin.closed:
            stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 — for the process's life
        if stdout.closed:
            stdout = _unbuffered(1, "strict")
        if stderr.closed:
            stderr = _unbuffered(2, "backslashreplace")
        self._streams = (stdin, stdout, stderr)


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Like `warnings.showwarning`; a place in the runner would mean nothing to the user."""
    if filename.startswith(RUNNER_FOLDER):
        text = f"{category.__name__}: {message}\n"
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
    try:
        (file or sys.stderr).write(text)
    except (OSError, ValueError):
        return


def _unbuffered(fd: int, errors: str) -> TextIO:
    # As `-u` makes them: no buffer, so that a kill loses nothing.
    return io.TextIOWrapper(
        io.FileIO(fd, "w", closefd=False), encoding="utf-8", errors=errors, write_through=True
    )
