"""Who calls: two keys that see nothing of each other's; the second pays for one session of 300 s at most."""

from collections.abc import Callable

import pytest
from conftest import PAGEBOX, SITE, handle, opened
from firecrawl import (
    AsyncFirecrawl,
    Firecrawl,
    FirecrawlError,
    PaymentRequiredError,
    RateLimitError,
    UnauthorizedError,
    WebsiteNotSupportedError,
)


def client(key: str) -> Firecrawl:
    return Firecrawl(api_url=PAGEBOX, api_key=key)


def refused(call: Callable[[], object], kind: type[FirecrawlError], said: str) -> None:
    with pytest.raises(kind, match=said):
        call()


def test_who_may_not_call(keys: list[str]) -> None:
    refused(lambda: client("").scrape(SITE), UnauthorizedError, "key")
    refused(lambda: client("fc-unknown").browser(), UnauthorizedError, "key")
    assert client(keys[0]).list_browsers().success


def test_what_is_somebody_elses_and_what_there_is_no_more_of(keys: list[str]) -> None:
    owner, other = (client(key) for key in keys)
    scrape_id = handle(owner.scrape(SITE))
    session = opened(owner.browser())
    for call in [
        lambda: other.interact(scrape_id, code="1"),
        lambda: other.stop_interaction(scrape_id),
        lambda: other.browser_execute(session, "true"),
        lambda: other.delete_browser(session),
    ]:
        # The client calls every 403 so.
        refused(call, WebsiteNotSupportedError, "Forbidden")
    # The owner's key allows one session at once.
    refused(owner.browser, RateLimitError, "session")
    owner.delete_browser(session)
    assert owner.interact(scrape_id, code="await page.title()").result == "Tidewater Almanac"
    owner.stop_interaction(scrape_id)

    refused(lambda: other.browser(ttl=3600), PaymentRequiredError, "credits")
    other.delete_browser(opened(other.browser(ttl=300)))


@pytest.mark.anyio
async def test_a_body_says_it_where_no_status_is_looked_at(keys: list[str]) -> None:
    foreign = opened(client(keys[0]).browser(ttl=30))
    other = AsyncFirecrawl(api_url=PAGEBOX, api_key=keys[1])
    for reply in [await other.browser_execute(foreign, "true"), await other.delete_browser(foreign)]:
        assert (reply.success, reply.error) == (False, "Forbidden.")
    client(keys[0]).delete_browser(foreign)
