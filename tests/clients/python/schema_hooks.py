"""What schemathesis cannot know of the daemon: what is there to be asked for, and what is not yet."""

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

# Where sessions are opened.
PREFIXES = ["/v2/browser", "/v2/interact"]


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


def is_in(case: Case, phase: str) -> bool:
    return case.meta is not None and case.meta.phase.name == phase


@schemathesis.hook
def after_load_schema(context: HookContext, schema: schemathesis.BaseSchema) -> None:
    """While there is room for both."""
    session()
    scrape()


@schemathesis.hook
def before_call(context: HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Random requests are about something that is there. Those of other phases are left as they are."""
    if not is_in(case, "fuzzing"):
        return
    # What they end is not what the others need.
    if is_uuid(case.path_parameters.get("id")) and case.method != "DELETE":
        about_scrape = case.path.startswith("/v2/scrape")
        case.path_parameters["id"] = scrape() if about_scrape else session()["id"]
    if "token" in case.query:
        case.query["token"] = parse_qs(urlsplit(session()["cdpUrl"]).query)["token"][0]
    if isinstance(case.body, dict):
        if isinstance(case.body.get("url"), str):
            case.body["url"] = f"{SITE}/article.html"
        for name in ["profile", "prompt", "existingSessionId"]:
            case.body.pop(name, None)


@schemathesis.hook
def after_call(context: HookContext, case: Case, response: Response) -> None:
    """Nothing needs the sessions of random requests, and scrapes need their room."""
    created = (case.method, response.status_code) == ("POST", 200) and case.path in PREFIXES
    if created and not is_in(case, "stateful"):
        requests.delete(f"{PAGEBOX}{case.path}/{response.json()['id']}", timeout=60).raise_for_status()


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: Case, response: Response) -> bool:
    """A server error is right in two cases: what is not there, or not configured, is said by name."""
    if not isinstance(failure, ServerError):
        return True
    body = response.json()
    not_there = body.get("code") == "NOT_IMPLEMENTED" and "is not available: " in body["error"]
    no_model = body.get("code") == "MODEL_MISSING"
    right = {501: not_there, 503: no_model}
    return not right.get(response.status_code, False)
