"""What is refused, as the client's classes of errors."""

import ssl
import subprocess
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from conftest import PAGEBOX, SITE, UNKNOWN, Scrape, metadata
from firecrawl import (
    BadRequestError,
    DNSResolutionError,
    Firecrawl,
    FirecrawlError,
    RequestTimeoutError,
    TLSError,
    WebsiteNotSupportedError,
)


def test_a_name_that_leads_nowhere(app: Firecrawl) -> None:
    with pytest.raises(DNSResolutionError) as raised:
        app.scrape("https://nowhere.invalid/")
    assert raised.value.status_code == 200
    assert raised.value.code == "SCRAPE_DNS_RESOLUTION_ERROR"


def test_a_page_that_may_not_be_reached(app: Firecrawl) -> None:
    with pytest.raises(WebsiteNotSupportedError) as raised:
        app.scrape("http://169.254.169.254/")
    assert raised.value.status_code == 403


def test_a_certificate_that_nobody_has_signed(
    app: Firecrawl, server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["/usr/bin/openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += [
        "-nodes",
        "-days",
        "1",
        "-subj",
        "/CN=localhost",
        "-keyout",
        str(key),
        "-out",
        str(certificate),
    ]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_port}/"
    with pytest.raises(TLSError) as raised:
        app.scrape(url, skip_tls_verification=False)
    assert raised.value.status_code == 500
    assert metadata(app.scrape(url)).title == "A page of its own"


def test_a_page_that_takes_too_long(app: Firecrawl) -> None:
    # Sent once: with `details.state` the client would sleep and send it again.
    with pytest.raises(RequestTimeoutError) as raised:
        app.scrape(f"{SITE}/slow?ms=20000", timeout=3000)
    assert raised.value.code == "SCRAPE_TIMEOUT"


def test_ids_that_lead_nowhere(app: Firecrawl, scrape: Scrape) -> None:
    with pytest.raises(BadRequestError, match="Job ID must be a valid UUID"):
        app.interact("no-uuid", code="1")
    with pytest.raises(BadRequestError, match="Job ID must be a valid UUID"):
        app.stop_interaction("no-uuid")
    for scrape_id, call, said in [
        (UNKNOWN, lambda scrape_id: app.interact(scrape_id, code="1"), "Job not found."),
        (UNKNOWN, app.stop_interaction, "Browser session not found."),
        # There is such a scrape, which nobody has interacted with.
        (scrape("/"), app.stop_interaction, "Browser session not found."),
    ]:
        with pytest.raises(FirecrawlError, match=said) as raised:
            call(scrape_id)
        assert raised.value.status_code == 404


def test_fields_that_are_not_as_they_must_be(app: Firecrawl, scrape: Scrape) -> None:
    with pytest.raises(BadRequestError, match="timeout is 301, must be 1 to 300 seconds"):
        app.interact(scrape("/"), code="1", timeout=301)
    with pytest.raises(BadRequestError, match="ttl is 29, must be 30 to 3600 seconds"):
        app.browser(ttl=29)


def test_a_daemon_without_a_model_says_so(app: Firecrawl, scrape: Scrape) -> None:
    scrape_id = scrape("/")
    with pytest.raises(FirecrawlError, match="no model is configured") as raised:
        app.interact(scrape_id, prompt="Click the Files tab")
    assert raised.value.status_code == 503


def test_a_path_of_the_url_is_dropped_and_the_key_does_not_matter() -> None:
    app = Firecrawl(api_url=f"{PAGEBOX}/gateway", api_key="fc-anything")
    assert app.list_browsers().success
