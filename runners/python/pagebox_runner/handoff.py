"""`pagebox.handoff(reason)`: asks for a person and waits until one is done."""

import asyncio
from typing import Final
from urllib.parse import urlsplit

ANSWER_BYTES: Final = 8192
TIMED_OUT: Final = 408


class Pagebox:
    """What user code has as `pagebox`."""

    def __init__(self, cdp_url: str | None) -> None:
        self._cdp_url = cdp_url

    async def handoff(self, reason: str, *, timeout: float = 300) -> None:  # noqa: ASYNC109 — of the daemon
        """Waits until a person has taken control of the browser and given it back.

        People see `reason` in the live view. `timeout` is in seconds, at most 3600; the time does not
        count for the execution's own. Raises TimeoutError when nobody was done in time.
        """
        if self._cdp_url is None:
            raise RuntimeError("handoff: there is no browser to hand over")
        place = urlsplit(self._cdp_url)
        token = place.path.rpartition("/")[2]
        body = str(reason).encode("utf-8", "replace")
        head = (
            f"POST /handoff/{token}?timeout={float(timeout)} HTTP/1.1\r\nhost: {place.netloc}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        reader, writer = await asyncio.open_connection(place.hostname, place.port)
        try:
            writer.write(head.encode() + body)
            data = b""
            while len(data) < ANSWER_BYTES and (part := await reader.read(ANSWER_BYTES)):
                data += part
        finally:
            writer.close()
        answer = data.decode("utf-8", "replace")
        status = answer.split(" ", 2)[1:2]
        if status == ["200"]:
            return
        message = answer.partition("\r\n\r\n")[2] or "the browser has ended"
        error = TimeoutError if status == [str(TIMED_OUT)] else RuntimeError
        raise error(f"handoff: {message}")

    def __repr__(self) -> str:
        return "<pagebox>"
