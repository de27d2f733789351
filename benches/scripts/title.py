"""As title.mjs, in Python. Argument: CDP endpoint."""

import sys

from playwright.sync_api import sync_playwright

with sync_playwright() as playwright:
    browser = playwright.chromium.connect_over_cdp(sys.argv[1])
    print(browser.contexts[0].pages[0].title())
    browser.close()
