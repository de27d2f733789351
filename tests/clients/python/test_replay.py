"""A scrape whose browser is not kept is done again, and told apart from one that cannot be."""

from http.server import ThreadingHTTPServer

import pytest
from conftest import SITE, handle
from firecrawl import Firecrawl, FirecrawlError
from firecrawl.v2.types import ClickAction, ExecuteJavascriptAction


def test_what_was_not_kept_is_done_again(app: Firecrawl) -> None:
    click = ClickAction(selector="#retitle")
    script = ExecuteJavascriptAction(script="document.title = 'not again'")
    scrape_id = handle(app.scrape(f"{SITE}/workbench.html", actions=[click, script]))
    found = app.interact(scrape_id, code="JSON.stringify([context.pages().length, await page.title()])")
    assert found.result == '[1,"Workbench, retitled"]'
    app.stop_interaction(scrape_id)


def test_what_cannot_be_done_again_is_a_conflict(app: Firecrawl, server: ThreadingHTTPServer) -> None:
    scrape_id = handle(app.scrape(f"http://127.0.0.1:{server.server_port}/"))
    server.shutdown()
    server.server_close()
    with pytest.raises(FirecrawlError) as raised:
        app.interact(scrape_id, code="1")
    assert raised.value.status_code == 409
    with pytest.raises(FirecrawlError, match="Browser session not found") as raised:
        app.stop_interaction(scrape_id)
    assert raised.value.status_code == 404
