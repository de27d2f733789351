"""Scrape, interact, stop: the flows of the documents, in each language."""

import base64
import json
from typing import Literal

import pytest
from conftest import SITE, Scrape, metadata
from firecrawl import Firecrawl, FirecrawlError
from firecrawl.types import Document

Language = Literal["node", "python", "bash"]


def test_a_document_has_what_was_asked_for_and_the_handle(app: Firecrawl) -> None:
    document = app.scrape(f"{SITE}/article.html", formats=["markdown", "links", "screenshot"])
    assert isinstance(document, Document)
    assert document.markdown
    assert document.markdown.startswith("# How a tide table is made")
    assert f"{SITE}/about.html" in (document.links or [])
    assert (document.screenshot or "").startswith("data:image/png;base64,")
    about = metadata(document)
    assert (about.status_code, about.proxy_used) == (200, "basic")
    assert (about.title, about.language) == ("How a tide table is made", "en")
    assert about.source_url == f"{SITE}/article.html"


def test_a_page_that_is_not_there_is_a_document_with_its_status(app: Firecrawl) -> None:
    about = metadata(app.scrape(f"{SITE}/status/404"))
    assert about.status_code == 404
    assert about.scrape_id


def test_calls_chain_on_one_page(app: Firecrawl, scrape: Scrape) -> None:
    scrape_id = scrape("/")
    first = app.interact(scrape_id, code="await page.click('#tab-2')")
    assert (first.success, first.exit_code, first.killed) == (True, 0, False)
    assert first.cdp_url
    assert first.cdp_url.startswith("ws://")
    assert "/live/" in (first.live_view_url or "")
    assert "/live/" in (first.interactive_live_view_url or "")
    files = app.interact(scrape_id, code="await page.$eval('#tab-2-content', el => el.textContent)")
    assert files.result == "almanac-1987.csv, almanac-2025.csv, corrections.txt, LICENSE"
    article = app.interact(
        scrape_id,
        code="""
    // Click a button and wait for navigation
    await page.click('#next-page');
    await page.waitForLoadState('networkidle');

    // Extract content from the new page
    const title = await page.title();
    const content = await page.$eval('.article-body', el => el.textContent);
    JSON.stringify({ title, content });
    """,
    )
    assert json.loads(article.result or "") == {
        "title": "How a tide table is made",
        "content": "Every table begins with a stick in the mud and somebody who reads it twice a day.",
    }
    pages = app.interact(scrape_id, code="JSON.stringify(context.pages().map(page => page.url()))")
    assert json.loads(pages.result or "") == [f"{SITE}/article.html"]


def test_what_comes_after_hydration_is_read_in_node_and_in_bash(app: Firecrawl, scrape: Scrape) -> None:
    scrape_id = scrape("/")
    node = app.interact(
        scrape_id,
        code="""
await page.waitForLoadState('networkidle');
const stats = await page.$$eval('.stats .num__align', els =>
  els.map(e => e.textContent.trim())
);
JSON.stringify({ downloads: stats[0], versions: stats[1] });
""",
    )
    assert node.result == '{"downloads":"979,503,976","versions":"315"}'
    bash = app.interact(
        scrape_id,
        code="""
echo "downloads: $(agent-browser get text '.stats .stat:nth-of-type(1) .num__align')"
echo "versions:  $(agent-browser get text '.stats .stat:nth-of-type(2) .num__align')"
""",
        language="bash",
    )
    assert bash.stdout == "downloads: 979,503,976\nversions:  315\n"


def test_a_screenshot_comes_back_as_base64(app: Firecrawl, scrape: Scrape) -> None:
    shot = app.interact(
        scrape("/"),
        code="""
await page.waitForLoadState('networkidle');
const buf = await page.screenshot({ fullPage: false });
buf.toString('base64');
""",
    )
    image = base64.b64decode(shot.result or "", validate=True)
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    assert image.endswith(b"IEND\xaeB`\x82")


def test_python_lists_what_a_click_has_loaded(app: Firecrawl, scrape: Scrape) -> None:
    response = app.interact(
        scrape("/"),
        code="""
import json

await page.click('#load-more')
await page.wait_for_load_state('networkidle')

items = await page.query_selector_all('.item')
data = []
for item in items:
    text = await item.text_content()
    data.append(text.strip())

print(json.dumps(data))
""",
        language="python",
    )
    harbours = ["Skerry Haven", "Old Quay", "Lantern Bay", "Gull Point", "Northmole", "Saltholm"]
    assert json.loads(response.stdout or "") == harbours
    assert (response.result, response.stderr) == ((response.stdout or "").rstrip("\n"), "")


def test_bash_takes_a_snapshot_and_acts_by_its_references(app: Firecrawl, scrape: Scrape) -> None:
    scrape_id = scrape("/search")
    snapshot = app.interact(scrape_id, code="agent-browser snapshot -i", language="bash")
    lines = (snapshot.stdout or "").splitlines()
    for what, reference in [('textbox "Search..."', "e1"), ('button "Search"', "e2"), ('link "About"', "e3")]:
        assert any(what in line and f"ref={reference}" in line for line in lines), snapshot.stdout
    app.interact(
        scrape_id,
        code='agent-browser fill @e1 "firecrawl" && agent-browser click @e2',
        language="bash",
    )
    found = app.interact(scrape_id, code="await page.waitForURL('**/search?*'); await page.title()")
    assert found.result == "Results for firecrawl"


def test_the_three_languages_have_one_page_and_one_file_system(app: Firecrawl, scrape: Scrape) -> None:
    scrape_id = scrape("/article.html")
    app.interact(scrape_id, code="require('fs').writeFileSync('/tmp/x', await page.title())")
    code = "print(await page.title() == open('/tmp/x').read())"
    assert app.interact(scrape_id, code=code, language="python").result == "True"
    title = app.interact(scrape_id, code="cat /tmp/x; echo; agent-browser get title", language="bash")
    assert title.stdout == "How a tide table is made\n" * 2


def test_code_that_fails_raises_with_its_stderr(app: Firecrawl, scrape: Scrape) -> None:
    scrape_id = scrape("/")
    failures: list[tuple[Language, str, str]] = [
        ("node", "console.error('at sea'); throw new TypeError('no harbour')", "TypeError: no harbour"),
        ("node", "console.error('at sea'); throw new TypeError('no harbour')", "at sea"),
        ("python", "raise ValueError('no such harbour')", "ValueError: no such harbour"),
        ("bash", "echo lost >&2; exit 3", "lost"),
        ("bash", "exit 4", "Execution failed"),
    ]
    for language, code, said in failures:
        with pytest.raises(FirecrawlError) as raised:
            app.interact(scrape_id, code=code, language=language)
        assert said in str(raised.value)
        # The reply itself is a success of HTTP.
        assert raised.value.status_code is None
    assert app.interact(scrape_id, code="await page.title()").result == "Tidewater Almanac"


def test_what_runs_too_long_is_killed_and_the_session_goes_on(app: Firecrawl, scrape: Scrape) -> None:
    scrape_id = scrape("/")
    app.interact(scrape_id, code="await page.click('#count')")
    endless: list[tuple[Language, str]] = [
        ("node", "while (true) {}"),
        ("python", "while True: pass"),
        ("bash", "sleep 60"),
    ]
    for language, code in endless:
        with pytest.raises(FirecrawlError, match="TimedOut: killed at its timeout of 1 s"):
            app.interact(scrape_id, code=code, language=language, timeout=1)
    assert app.interact(scrape_id, code="await page.textContent('#counter')").result == "1"


def test_stopping_bills_whole_numbers_and_may_be_repeated(app: Firecrawl, scrape: Scrape) -> None:
    scrape_id = scrape("/")
    app.interact(scrape_id, code="1")
    stopped = app.stop_interaction(scrape_id)
    assert stopped.success
    assert (stopped.session_duration_ms or 0) > 0
    assert stopped.credits_billed == 2
    again = app.stop_interaction(scrape_id)
    assert (again.success, again.session_duration_ms, again.credits_billed) == (True, None, 2)
    with pytest.raises(FirecrawlError, match="has been destroyed") as raised:
        app.interact(scrape_id, code="1")
    assert raised.value.status_code == 410
