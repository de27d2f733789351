"""What every script has: the daemon and the site it was given, and clients of the daemon.

The clients are as they were published. A flow of the documents is written here as it is there.
"""

import os
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from firecrawl import AsyncFirecrawl, Firecrawl, FirecrawlError
from firecrawl.types import Document, DocumentMetadata
from firecrawl.v2.types import BrowserCreateResponse

PAGEBOX = os.environ["PAGEBOX_URL"]
SITE = os.environ["SITE_URL"]

# No session and no scrape has it.
UNKNOWN = "01a1fc28-7966-7644-9026-0c4c83e9012b"

Scrape = Callable[[str], str]


def metadata(document: object) -> DocumentMetadata:
    assert isinstance(document, Document)
    assert document.metadata
    return document.metadata


def handle(document: object) -> str:
    """The id by which a scraped page is interacted with."""
    scrape_id = metadata(document).scrape_id
    assert scrape_id
    return scrape_id


def opened(created: BrowserCreateResponse) -> str:
    """The id of a new session."""
    assert created.success, created.error
    assert created.id
    return created.id


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.end_headers()
        self.wfile.write(b"<title>A page of its own</title>")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is logged."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A site beside the shared one, for what a test does to it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--key", action="append", default=[], help="a key of the daemon; may be repeated")


@pytest.fixture
def keys(pytestconfig: pytest.Config) -> list[str]:
    return [str(key) for key in pytestconfig.getoption("--key") or []]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def app() -> Firecrawl:
    return Firecrawl(api_url=PAGEBOX)


@pytest.fixture
def async_app() -> AsyncFirecrawl:
    return AsyncFirecrawl(api_url=PAGEBOX)


@pytest.fixture
def scrape(app: Firecrawl) -> Iterator[Scrape]:
    """Scrapes a page of the site and gives the scrape's id. What was made of it is stopped at the end."""
    made: list[str] = []

    def scraped(path: str) -> str:
        scrape_id = handle(app.scrape(SITE + path, formats=["markdown"]))
        made.append(scrape_id)
        return scrape_id

    yield scraped
    for scrape_id in made:
        try:
            app.stop_interaction(scrape_id)
        except FirecrawlError as error:
            # It was never interacted with.
            assert error.status_code == 404, error
