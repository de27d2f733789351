"""Words the value of an execution as text. Never raises, whatever the value does."""

import json
import reprlib
from collections.abc import Callable
from typing import Final, cast

_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_FITS_JSON: Final = (bool, int, float, list, tuple, dict)


class _Bounded(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 8
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = 100
        self.maxstring = self.maxlong = self.maxother = 10_000


_BOUNDED: Final = _Bounded()


def result_text(value: object, limit_bytes: int) -> tuple[str | None, bool]:
    """The text of at most `limit_bytes` of UTF-8, and whether it was cut.

    `None` has no text; a string is itself; what JSON can hold is compact JSON; anything else is its
    `repr`, bounded where the plain one fails.
    """
    if value is None:
        return None, False
    encoded = _text(value).encode("utf-8", "replace")
    if len(encoded) <= limit_bytes:
        return encoded.decode(), False
    return encoded[:limit_bytes].decode("utf-8", "ignore"), True


def _text(value: object) -> str:
    try:
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, _FITS_JSON):
            return _ENCODER.encode(value)
    except BaseException:  # noqa: BLE001 — cycles, NaN, foreign objects, depth, hostile subclasses
        pass
    words: tuple[Callable[[object], str], ...] = (repr, _BOUNDED.repr, _number, _name)
    for word in words:
        try:
            return word(cast("object", value))
        except BaseException:  # noqa: BLE001 — `__repr__` may raise anything, `SystemExit` too
            continue
    return "<unprintable>"


def _number(value: object) -> str:
    # Decimal text of an integer beyond `sys.get_int_max_str_digits` is refused; hexadecimal is not.
    return hex(int.__index__(value)) if isinstance(value, int) else _name(value)


def _name(value: object) -> str:
    return f"<unprintable {type(value).__name__} object>"
