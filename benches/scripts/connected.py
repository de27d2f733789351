"""As connected.mjs, in Python. Argument: CDP endpoint."""

import asyncio
import json
import sys
import time

from playwright.async_api import async_playwright


async def main() -> None:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.connect_over_cdp(sys.argv[1])
        page = browser.contexts[0].pages[0]
        print(json.dumps({"said": "ready", "ms": 0}), flush=True)
        while sys.stdin.readline():
            begun = time.perf_counter()
            said = await page.title()
            took = (time.perf_counter() - begun) * 1000
            print(json.dumps({"said": said, "ms": took}), flush=True)
        await browser.close()


asyncio.run(main())
