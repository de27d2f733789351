"""Prompts, sync and async. The daemon's model does what each line of a task says."""

import pytest
from conftest import SITE, Scrape, handle
from firecrawl import AsyncFirecrawl, BadRequestError, Firecrawl, FirecrawlError
from firecrawl.types import Document


def search(term: str) -> str:
    return f'Fill "Search..." with "{term}"\nClick "Search"\nTell me the line with "edition 2"'


def test_a_prompt_and_code_on_one_page(app: Firecrawl, scrape: Scrape) -> None:
    scrape_id = scrape("/search")
    found = app.interact(scrape_id, prompt=search("spring"), timeout=60)
    assert found.success
    assert "spring in edition 2" in (found.output or "")
    assert "[ref=" in (found.result or "")
    assert (found.exit_code, found.killed) == (0, False)
    title = app.interact(scrape_id, code="await page.title()", language="python")
    assert title.result == "Results for spring"
    again = app.interact(scrape_id, prompt=search("neap"))
    assert "neap in edition 2" in (again.output or "")
    stopped = app.stop_interaction(scrape_id)
    assert stopped.credits_billed == 7


def test_a_prompt_that_comes_to_nothing(app: Firecrawl, scrape: Scrape) -> None:
    scrape_id = scrape("/search")
    with pytest.raises(BadRequestError, match="prompt is 10001 characters long"):
        app.interact(scrape_id, prompt="x" * 10_001)
    # An answer all the same, though not the one that was hoped for.
    refused = app.interact(scrape_id, prompt='Open "http://127.0.0.1:1/"')
    assert (refused.output or "").startswith("I was refused: open")
    with pytest.raises(FirecrawlError, match="not done within 1s"):
        app.interact(scrape_id, prompt='Run "wait 20000"', timeout=1)


def test_what_a_model_makes_of_a_page(app: Firecrawl) -> None:
    schema = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}
    formats = ["summary", {"type": "json", "prompt": "The title", "schema": schema}]
    document = app.scrape(f"{SITE}/article.html", formats=formats)
    assert isinstance(document, Document)
    assert document.summary == "A page about: How a tide table is made"
    assert document.json == {"title": "How a tide table is made"}


@pytest.mark.anyio
async def test_the_same_for_asyncio(async_app: AsyncFirecrawl) -> None:
    scrape_id = handle(await async_app.scrape(f"{SITE}/search", formats=["markdown"]))
    found = await async_app.interact(scrape_id, prompt=search("ebb"))
    assert "ebb in edition 2" in (found.output or "")
    assert (await async_app.stop_interaction(scrape_id)).success
