"""What schemathesis cannot know of the daemon: what is there to be asked for, and which errors are right."""

import os
from functools import cache
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import requests
import schemathesis
from schemathesis import Case, HookContext, Response
from schemathesis.core.failures import Failure, ServerError

PAGEBOX = os.environ["PAGEBOX_URL"]
SITE = os.environ["SITE_URL"]

# With these the daemon says whose fault it is: nobody's yet, or the page's.
TOLD = {(501, "NOT_IMPLEMENTED"), (500, "SCRAPE_SITE_ERROR"), (500, "SCRAPE_ACTION_ERROR")}


def posted(path: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = requests.post(PAGEBOX + path, json=body, timeout=60)
    reply.raise_for_status()
    return reply.json()


@cache
def session() -> dict[str, Any]:
    return posted("/v2/browser", {})


@cache
def scrape() -> str:
    """A scrape with a session."""
    document = posted("/v2/scrape", {"url": f"{SITE}/article.html"})["data"]
    scrape_id = document["metadata"]["scrapeId"]
    posted(f"/v2/scrape/{scrape_id}/interact", {"code": "1"})
    return scrape_id


def is_uuid(value: object) -> bool:
    try:
        UUID(str(value))
    except ValueError:
        return False
    return True


@schemathesis.hook
def after_load_schema(context: HookContext, schema: schemathesis.BaseSchema) -> None:
    """While there is room for both."""
    session()
    scrape()


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Random requests are about something that is there. Those of other phases are left as they are."""
    if case.meta is None or case.meta.phase.name != "fuzzing":
        return
    # What they end is not what the others need.
    if is_uuid(case.path_parameters.get("id")) and case.method != "DELETE":
        about_scrape = case.path.startswith("/v2/scrape")
        case.path_parameters["id"] = scrape() if about_scrape else session()["id"]
    if "token" in case.query:
        case.query["token"] = parse_qs(urlsplit(session()["cdpUrl"]).query)["token"][0]
    if isinstance(case.body, dict) and isinstance(case.body.get("url"), str):
        case.body["url"] = f"{SITE}/article.html"


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    if not isinstance(failure, ServerError):
        return True
    return (response.status_code, response.json().get("code")) not in TOLD
