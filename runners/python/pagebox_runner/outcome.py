"""How an execution ended: exit code, error and the traceback a user should see."""

import traceback
from pathlib import Path
from typing import Final

RUNNER_FOLDER: Final = str(Path(__file__).parent)
# In site-packages, or in what Debian calls dist-packages.
PLAYWRIGHT_FOLDER: Final = "-packages/playwright/"
# An error message longer than this is cut; the traceback on stderr is not.
MAX_MESSAGE: Final = 64 * 1024
_FORMAT: Final = traceback.TracebackException.format


class Outcome:
    """An exit code, an error for the frame, and text for stderr."""

    def __init__(self, exit_code: int, error: dict[str, str] | None, stderr: str) -> None:
        self.exit_code = exit_code
        self.error = error
        self.stderr = stderr

    @classmethod
    def success(cls) -> "Outcome":
        """Ended by reaching its end."""
        return cls(0, None, "")

    @classmethod
    def of(cls, exception: BaseException) -> "Outcome":
        """Ended by an exception it did not catch; `SystemExit` is not an error."""
        if isinstance(exception, SystemExit):
            return cls._exit(exception.code)
        error = {"name": type(exception).__name__, "message": _message(exception)}
        return cls(1, error, _traceback(exception))

    @classmethod
    def _exit(cls, code: object) -> "Outcome":
        # As the interpreter does: None is 0, a number its lowest byte, anything else is printed.
        if code is None:
            return cls(0, None, "")
        if isinstance(code, int):
            return cls(code & 0xFF, None, "")
        try:
            return cls(1, None, f"{code}\n")
        except Exception:  # noqa: BLE001 — its `__str__` is user code
            return cls(1, None, "")


def _message(exception: BaseException) -> str:
    try:
        return str(exception)[:MAX_MESSAGE].encode("utf-8", "replace").decode()
    except BaseException:  # noqa: BLE001 — `__str__` of a user's class
        return "<message failed>"


def _traceback(exception: BaseException) -> str:
    try:
        shown = traceback.TracebackException.from_exception(exception, compact=True)
        _hide_foreign_frames(shown)
        return "".join(_FORMAT(shown))
    except BaseException:  # noqa: BLE001 — depth, memory or a user's class; the name is better than nothing
        return f"{type(exception).__name__}: {_message(exception)}\n"


def _hide_foreign_frames(shown: traceback.TracebackException) -> None:
    """Leaves out the runner's frames and Playwright's insides, of which every call has a dozen."""
    waiting: list[traceback.TracebackException | None] = [shown]
    while waiting:
        one = waiting.pop()
        if one is None:
            continue
        users = [frame for frame in one.stack if not _is_foreign(frame.filename)]
        if len(users) < len(one.stack):
            one.stack = traceback.StackSummary.from_list(users)
        waiting += [one.__cause__, one.__context__, *(one.exceptions or ())]


def _is_foreign(file: str) -> bool:
    return file.startswith(RUNNER_FOLDER) or PLAYWRIGHT_FOLDER in file
