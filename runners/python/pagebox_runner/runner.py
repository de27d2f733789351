"""The runner: frames in, executions on the event loop, `finished` out.

It has no task of its own while idle, only a reader callback, so that user code that cancels all tasks,
stops the loop or exits in a task ends its execution and not the runner. Tasks that user code leaves
behind go on between executions for as long as the process lives. Their unhandled errors are reported
by asyncio on stderr; what is written between executions is the daemon's to drop.
"""

import asyncio
import contextvars
import os
import sys
from collections.abc import Coroutine
from types import ModuleType
from typing import Any, cast

from .browser import Browser
from .channel import Channel, Frame
from .guard import Guard, restore_builtins
from .handoff import Pagebox
from .outcome import Outcome
from .packages import UserPackages
from .program import Compiler
from .result import result_text


class Runner:
    """One context: a namespace, an event loop, and at most one execution at a time."""

    def __init__(self) -> None:
        self._channel = Channel()
        self._main = ModuleType("__main__")
        self._namespace = cast("dict[str, object]", vars(self._main))
        self._namespace["__builtins__"] = sys.modules["builtins"]
        self._guard = Guard(self._main)
        self._compiler = Compiler()
        self._packages = UserPackages()
        self._browser: Browser | None = None
        self._loop = asyncio.new_event_loop()
        # Context variables persist like other variables.
        self._context = contextvars.copy_context()
        self._task: asyncio.Task[None] | None = None
        self._forced: BaseException | None = None
        self._exit_code: int | None = None

    def serve(self) -> int:
        """Until the daemon closes the socket or the browser cannot be reached; the exit status."""
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(_report)
        self._loop.add_reader(self._channel.fileno(), self._on_readable)
        if cdp_url := os.environ.get("CDP_URL"):
            # There is a browser, or will be: Playwright loads meanwhile.
            self._browser = Browser(cdp_url)
            self._loop.call_soon(self._browser.load)
        while self._exit_code is None:
            try:
                # Returns when user code stops the loop; then it just goes on.
                self._loop.run_forever()
            except OSError:
                # The loop's own descriptors are gone: `os.closerange` or the like.
                return 1
            except BaseException as exception:  # noqa: BLE001
                # `sys.exit` or Ctrl-C in a task or callback, or built-ins the loop needs are gone.
                restore_builtins()
                self._end_early(exception)
        return self._exit_code

    def _on_readable(self) -> None:
        if not self._channel.receive(self._on_frame):
            self._end(0)

    def _end(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._loop.remove_reader(self._channel.fileno())
        self._loop.stop()

    def _on_frame(self, frame: Frame) -> None:
        if frame["type"] == "init":
            self._start(self._connect(cast("str | None", frame["cdp_url"])))
        elif frame["type"] == "execute":
            self._start(self._execute(frame))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._task = self._loop.create_task(work, context=self._context)

    async def _connect(self, cdp_url: str | None) -> None:
        self._namespace["pagebox"] = Pagebox(cdp_url)
        if cdp_url is not None:
            browser = self._browser or Browser(cdp_url)
            try:
                await browser.connect()
            except Exception as error:  # noqa: BLE001 — the daemon is told and the runner ends
                self._channel.send({"type": "failed", "message": f"connect to the browser: {error}"})
                self._end(1)
                return
            self._browser = browser
        self._channel.send({"type": "ready"})

    async def _execute(self, frame: Frame) -> None:
        target = cast("str | None", frame["page"])
        self._forced = None
        self._guard.enter(cast("dict[str, str]", frame["environment"]))
        text: str | None = None
        truncated = False
        try:
            if self._browser is not None:
                navigated = frame.get("navigated") is True
                await self._browser.bind(self._namespace, target, navigated=navigated)
            self._packages.refresh()
            program = self._compiler.compile(cast("str", frame["code"]))
            try:
                value = await program.run(self._namespace)
            finally:
                restore_builtins()
            text, truncated = result_text(value, cast("int", frame["result_limit_bytes"]))
            del value
            outcome = Outcome.success()
        except BaseException as exception:  # noqa: BLE001 — whatever user code raises is its outcome
            outcome = Outcome.of(self._forced or exception)
        moved = await self._moved(target)
        self._guard.write_stderr(outcome.stderr)
        self._guard.leave()
        self._task = None
        self._channel.send(
            {
                "type": "finished",
                "id": frame["id"],
                "exit_code": outcome.exit_code,
                "result": text,
                "result_truncated": truncated,
                "error": outcome.error,
                "page": moved,
            }
        )

    async def _moved(self, target: str | None) -> str | None:
        if self._browser is None:
            return None
        page = self._namespace.get("page")
        try:
            await asyncio.wait_for(self._browser.learn(page), 1)
        except (TimeoutError, asyncio.CancelledError):
            return None
        return self._browser.moved_to(page, target)

    def _end_early(self, exception: BaseException) -> None:
        """Ends the running execution as if its code had raised `exception`."""
        if self._task is not None and not self._task.done():
            self._forced = exception
            self._task.cancel()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What asyncio does, but for exits: those have ended the execution already."""
    if not isinstance(context.get("exception"), (SystemExit, KeyboardInterrupt)):
        loop.default_exception_handler(context)
