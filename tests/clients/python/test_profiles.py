"""Persistent profiles: the recipe that validates them, and what a second writer is told."""

import json

import pytest
from conftest import SITE, handle, opened
from firecrawl import AsyncFirecrawl, Firecrawl, FirecrawlError

WRITE = """
await page.evaluate(() => {
  localStorage.setItem("firecrawlProfileCheck", "saved");
  document.cookie = "firecrawl_profile_check=saved; path=/; max-age=3600";
  return localStorage.getItem("firecrawlProfileCheck");
});
"""
READ = """
JSON.stringify(await page.evaluate(() => ({
  localStorage: localStorage.getItem("firecrawlProfileCheck"),
  cookie: document.cookie.includes("firecrawl_profile_check=saved"),
})));
"""
KEPT = {"localStorage": "saved", "cookie": True}


def test_what_a_session_stores_is_there_in_the_next_one(app: Firecrawl) -> None:
    first = handle(app.scrape(SITE, profile={"name": "python", "saveChanges": True}))
    assert app.interact(first, code=WRITE).success
    app.stop_interaction(first)
    second = handle(app.scrape(SITE, profile={"name": "python", "saveChanges": False}))
    assert json.loads(app.interact(second, code=READ).result or "") == KEPT
    app.stop_interaction(second)


@pytest.mark.anyio
async def test_the_same_for_asyncio(async_app: AsyncFirecrawl) -> None:
    first = handle(await async_app.scrape(SITE, profile={"name": "asyncio", "saveChanges": True}))
    assert (await async_app.interact(first, code=WRITE)).success
    await async_app.stop_interaction(first)
    second = handle(await async_app.scrape(SITE, profile={"name": "asyncio", "saveChanges": False}))
    assert json.loads((await async_app.interact(second, code=READ)).result or "") == KEPT
    await async_app.stop_interaction(second)


def test_one_session_writes_and_others_read(app: Firecrawl) -> None:
    writer = opened(app.browser(profile={"name": "one writer", "save_changes": True}))
    with pytest.raises(FirecrawlError) as refused:
        app.browser(profile={"name": "one writer"})
    assert refused.value.status_code == 409
    assert "currently writing to this profile" in str(refused.value)
    reader = opened(app.browser(profile={"name": "one writer", "save_changes": False}))
    for session in (reader, writer):
        assert app.delete_browser(session).success
    assert app.delete_browser(opened(app.browser(profile={"name": "one writer"}))).success
