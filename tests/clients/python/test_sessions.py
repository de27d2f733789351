"""Standalone sessions, by the blocking client."""

from datetime import UTC, datetime

import pytest
from conftest import UNKNOWN, opened
from firecrawl import Firecrawl, FirecrawlError


def test_a_session_from_its_start_to_its_end(app: Firecrawl) -> None:
    made = app.browser(ttl=120, activity_ttl=60, stream_web_view=True, location={"country": "GB"})
    session = opened(made)
    assert (made.cdp_url or "").startswith("ws://")
    links = {made.live_view_url, made.interactive_live_view_url}
    assert len(links) == 2
    assert all(f"/live/{session}#" in (link or "") for link in links)
    left = datetime.fromisoformat(made.expires_at or "") - datetime.now(UTC)
    assert 0 < left.total_seconds() <= 120

    active = app.list_browsers(status="active").sessions or []
    listed = next(item for item in active if item.id == session)
    assert (listed.status, listed.cdp_url, listed.stream_web_view) == ("active", made.cdp_url, True)

    ran = app.browser_execute(session, "echo out; echo err >&2")
    assert (ran.success, ran.stdout, ran.stderr, ran.exit_code) == (True, "out\n", "err\n", 0)
    assert app.browser_execute(session, "({ a: [1] })", language="node").result == '{"a":[1]}'
    assert app.browser_execute(session, "print(6 * 7)", language="python").result == "42"

    deleted = app.delete_browser(session)
    assert deleted.success
    assert (deleted.session_duration_ms or 0) > 0
    assert deleted.credits_billed == 2
    again = app.delete_browser(session)
    assert (again.success, again.session_duration_ms, again.credits_billed) == (True, None, 2)
    active = app.list_browsers(status="active").sessions or []
    assert session not in [item.id for item in active]
    destroyed = app.list_browsers(status="destroyed").sessions or []
    assert session in [item.id for item in destroyed]
    with pytest.raises(FirecrawlError, match="has been destroyed") as raised:
        app.browser_execute(session, "true")
    assert raised.value.status_code == 410


def test_code_that_fails_is_told_in_a_reply_and_not_raised(app: Firecrawl) -> None:
    session = opened(app.browser())
    failed = app.browser_execute(session, "echo lost >&2; exit 3")
    assert (failed.success, failed.exit_code, failed.killed, failed.error) == (True, 3, False, "lost")
    killed = app.browser_execute(session, "while (true) {}", language="node", timeout=1)
    assert (killed.success, killed.exit_code, killed.killed) == (True, 137, True)
    assert killed.error == "TimedOut: killed at its timeout of 1 s"
    assert app.browser_execute(session, "echo on").stdout == "on\n"
    app.delete_browser(session)


def test_a_session_that_is_not_there(app: Firecrawl) -> None:
    for call in [lambda: app.browser_execute(UNKNOWN, "true"), lambda: app.delete_browser(UNKNOWN)]:
        with pytest.raises(FirecrawlError, match="Browser session not found") as raised:
            call()
        assert raised.value.status_code == 404
