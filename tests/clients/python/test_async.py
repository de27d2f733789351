"""The client for asyncio: the same flows, several at once, and bodies of errors that it reads itself."""

import asyncio

import pytest
from conftest import SITE, UNKNOWN, handle, metadata, opened
from firecrawl import AsyncFirecrawl, BadRequestError, DNSResolutionError, FirecrawlError

pytestmark = pytest.mark.anyio


async def test_scrape_interact_stop(async_app: AsyncFirecrawl) -> None:
    app = async_app
    scrape_id = handle(await app.scrape(SITE, formats=["markdown"]))
    with pytest.raises(FirecrawlError, match="Browser session not found") as raised:
        await app.stop_interaction(scrape_id)
    assert raised.value.status_code == 404
    # The first calls, all at once: one session comes of it.
    clicks = [app.interact(scrape_id, code="await page.click('#count')") for _ in range(4)]
    replies = await asyncio.gather(*clicks)
    assert len({reply.cdp_url for reply in replies}) == 1
    code = "print(await page.text_content('#counter'))"
    counted = await app.interact(scrape_id, code=code, language="python")
    assert counted.result == "4"
    title = await app.interact(scrape_id, code="agent-browser get title", language="bash")
    assert title.stdout == "Tidewater Almanac\n"
    with pytest.raises(FirecrawlError, match="ValueError: no such harbour"):
        await app.interact(scrape_id, code="raise ValueError('no such harbour')", language="python")
    with pytest.raises(FirecrawlError, match="TimedOut: killed at its timeout of 1 s"):
        await app.interact(scrape_id, code="while (true) {}", timeout=1)
    with pytest.raises(FirecrawlError, match="no model is configured") as raised:
        await app.interact(scrape_id, prompt="Click the Files tab")
    assert raised.value.status_code == 503
    stopped = await app.stop_interaction(scrape_id)
    assert stopped.success
    assert (stopped.session_duration_ms or 0) > 0
    assert stopped.credits_billed == 2
    with pytest.raises(FirecrawlError, match="has been destroyed") as raised:
        await app.interact(scrape_id, code="1")
    assert raised.value.status_code == 410


async def test_scrapes_that_fail(async_app: AsyncFirecrawl) -> None:
    with pytest.raises(DNSResolutionError):
        await async_app.scrape("https://nowhere.invalid/")
    with pytest.raises(BadRequestError, match="Job ID must be a valid UUID"):
        await async_app.interact("no-uuid", code="1")
    with pytest.raises(BadRequestError, match="Profile name must be between 1 and 128 characters"):
        await async_app.scrape(SITE, profile={"name": "n" * 129})
    assert metadata(await async_app.scrape(f"{SITE}/status/500")).status_code == 500


async def test_sessions_and_the_bodies_of_their_errors(async_app: AsyncFirecrawl) -> None:
    app = async_app
    session = opened(await app.browser(ttl=120))
    active = (await app.list_browsers(status="active")).sessions or []
    assert session in [item.id for item in active]
    ran = await app.browser_execute(session, "await page.evaluate('6 * 7')", language="node")
    assert (ran.success, ran.result, ran.exit_code) == (True, "42", 0)
    failed = await app.browser_execute(session, "exit 3")
    assert (failed.success, failed.exit_code, failed.error) == (True, 3, "Execution failed")
    deleted = await app.delete_browser(session)
    assert (deleted.success, deleted.credits_billed) == (True, 2)
    assert (deleted.session_duration_ms or 0) > 0

    # It does not look at the status of these, so all that is known is in the body.
    for reply, said in [
        (await app.browser_execute(session, "true"), "Browser session has been destroyed."),
        (await app.browser_execute(UNKNOWN, "true"), "Browser session not found."),
        (await app.delete_browser(UNKNOWN), "Browser session not found."),
        (await app.browser(ttl=29), "ttl is 29, must be 30 to 3600 seconds"),
        (await app.browser(profile={"name": ""}), "Profile name must be between 1 and 128 characters."),
    ]:
        assert (reply.success, reply.error) == (False, said)
