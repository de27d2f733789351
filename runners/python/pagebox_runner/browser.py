"""The Playwright connection and which page is which CDP target."""

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from playwright.async_api import Browser as PlaywrightBrowser
    from playwright.async_api import BrowserContext, Page, Playwright

# What the driver loads first: `page.request` speaks HTTP from the driver, which knows no proxy.
DRIVER_PRELOAD: Final = Path(__file__).parents[2] / "node" / "proxy-preload.mjs"

# How long to wait for a page another client has just opened.
PAGE_WAIT_SECONDS: Final = 5.0
# How long Playwright may take to hear of what has happened; it takes some milliseconds.
CATCH_UP_SECONDS: Final = 1.0


class Browser:
    """A connection to the session's browser that mends itself when user code closed it."""

    def __init__(self, cdp_url: str) -> None:
        self._cdp_url = cdp_url
        self._playwright: Playwright | None = None
        self._loading: asyncio.Task[Playwright] | None = None
        self._browser: PlaywrightBrowser | None = None
        self._targets: WeakKeyDictionary[Page, str] = WeakKeyDictionary()
        self._learning: dict[Page, asyncio.Future[str | None]] = {}
        self._changed = asyncio.Event()

    def load(self) -> None:
        """Starts Playwright ahead of the connection, whose errors tell what fails here."""
        self._loading = asyncio.get_running_loop().create_task(_start_playwright())

    async def connect(self) -> None:
        """Connects, or connects again. Raises Playwright's errors."""
        if self._playwright is None or self._driver_is_gone():
            loading, self._loading = self._loading, None
            self._playwright = await (loading or _start_playwright())
        try:
            self._browser = await self._playwright.chromium.connect_over_cdp(self._cdp_url)
        except Exception:  # noqa: BLE001 — Playwright raises plain `Exception`, too
            # The driver itself may be gone (`playwright.stop()`): one more try with a new one.
            self._playwright = await _start_playwright()
            self._browser = await self._playwright.chromium.connect_over_cdp(self._cdp_url)
        for context in self._browser.contexts:
            self._watch(context)
            for page in context.pages:
                await self._target_of(page)

    async def bind(self, namespace: dict[str, object], target: str | None, *, navigated: bool) -> None:
        """Binds `page` to the target; `context`, `browser` and `playwright` where they are missing.
        When pages have `navigated`, Playwright has heard of it then."""
        browser = self._browser
        if browser is None or not await self._is_connected(browser):
            await self.connect()
            browser = self._browser
            for name in ("context", "browser", "playwright"):
                namespace.pop(name, None)
        assert browser is not None
        namespace.setdefault("browser", browser)
        namespace.setdefault("playwright", self._playwright)
        if browser.contexts:
            namespace.setdefault("context", browser.contexts[0])
        namespace["page"] = await self._find(target)
        if navigated and browser.contexts:
            # It answers in order. No page has to answer this; the code's own calls tell what fails.
            with suppress(Exception):
                await asyncio.wait_for(browser.contexts[0].cookies(), CATCH_UP_SECONDS)

    def moved_to(self, value: object, from_target: str | None) -> str | None:
        """The target of the page that user code made its own, if it is another one and known."""
        from playwright.async_api import Page

        if not isinstance(value, Page) or value.is_closed():
            return None
        target = self._targets.get(value)
        return None if target == from_target else target

    async def learn(self, value: object) -> None:
        """Makes the target of `value` known when it is an open page of any context."""
        from playwright.async_api import Page

        if isinstance(value, Page) and not value.is_closed() and value not in self._targets:
            await self._target_of(value)

    async def _is_connected(self, browser: "PlaywrightBrowser") -> bool:
        if not browser.is_connected() or self._driver_is_gone():
            return False
        # Code that holds a CDP session may have sent `Browser.close`, which closes its connection
        # after the reply; Playwright hears of that later. A call of its own then fails.
        held: dict[str, object] = getattr(self._connection(), "_objects", {})
        if not any(type(one).__name__ == "CDPSession" for one in held.values()):
            return True
        try:
            session = await browser.new_browser_cdp_session()
            await session.detach()
        except Exception:  # noqa: BLE001 — Playwright raises plain `Exception`, too
            return False
        return True

    def _driver_is_gone(self) -> bool:
        # After `playwright.stop()` or a killed driver every call fails, yet `is_connected` stays true.
        connection = self._connection()
        if getattr(connection, "_closed_error", None) is not None:
            return True
        # A driver killed a moment ago: its process tells before its pipe does.
        process: Any = getattr(getattr(connection, "_transport", None), "_proc", None)
        try:
            options = os.WEXITED | os.WNOHANG | os.WNOWAIT
            return process is not None and os.waitid(os.P_PID, process.pid, options) is not None
        except ChildProcessError:
            return True

    def _connection(self) -> Any:
        implementation: Any = getattr(self._playwright, "_impl_obj", None)
        return getattr(implementation, "_connection", None)

    def _watch(self, context: "BrowserContext") -> None:
        context.on("page", self._learn_soon)

    def _learn_soon(self, page: "Page") -> None:
        asyncio.ensure_future(self._target_of(page))  # noqa: RUF006 — `_learning` holds the inner task

    async def _target_of(self, page: "Page") -> str | None:
        known = self._targets.get(page)
        if known is not None:
            return known
        task = self._learning.get(page)
        if task is None:
            task = asyncio.ensure_future(self._ask_target(page))
            self._learning[page] = task
            task.add_done_callback(lambda _: self._learning.pop(page, None))
        return await asyncio.shield(task)

    async def _ask_target(self, page: "Page") -> str | None:
        try:
            session = await page.context.new_cdp_session(page)
            # Playwright's own signature says plain `dict`.
            info: dict[str, dict[str, str]] = await cast("Any", session).send("Target.getTargetInfo")
            target = info["targetInfo"]["targetId"]
            self._targets[page] = target
            self._changed.set()
            await session.detach()
        except Exception:  # noqa: BLE001 — the page was closed meanwhile
            return self._targets.get(page)
        return target

    async def _find(self, target: str | None) -> "Page | None":
        try:
            async with asyncio.timeout(PAGE_WAIT_SECONDS):
                while True:
                    self._changed.clear()
                    pages = [page for page in self._pages() if not page.is_closed()]
                    found = self._choose(pages, target)
                    if found is not None or target is None:
                        return found
                    for page in pages:
                        await self._target_of(page)
                    if self._choose(pages, target) is None:
                        await self._changed.wait()
        except TimeoutError:
            return next((page for page in reversed(self._pages()) if not page.is_closed()), None)

    def _choose(self, pages: "list[Page]", target: str | None) -> "Page | None":
        if target is None:
            return pages[-1] if pages else None
        return next((page for page in pages if self._targets.get(page) == target), None)

    def _pages(self) -> "list[Page]":
        assert self._browser is not None
        return [page for context in self._browser.contexts for page in context.pages]


async def _start_playwright() -> "Playwright":
    from playwright.async_api import async_playwright

    # The driver inherits sys.stderr and would make the user's pipe non-blocking: give it another.
    stderr = sys.stderr
    options = os.environ.get("NODE_OPTIONS")
    if DRIVER_PRELOAD.exists():
        os.environ["NODE_OPTIONS"] = f"{options or ''} --import={DRIVER_PRELOAD}".strip()
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        sys.stderr = nowhere
        try:
            return await async_playwright().start()
        finally:
            sys.stderr = stderr
            if options is None:
                os.environ.pop("NODE_OPTIONS", None)
            else:
                os.environ["NODE_OPTIONS"] = options
