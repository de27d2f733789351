"""Turns source text into code objects and runs them: top-level await, last expression as the value."""

import ast
import inspect
import linecache
from collections import deque
from types import CodeType
from typing import Final, cast

# Sources kept for tracebacks of functions defined in earlier executions.
KEPT_SOURCES: Final = 500
FLAGS: Final = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


class Program:
    """One execution's code: all statements but a last expression, and that expression."""

    def __init__(self, body: CodeType, value: CodeType | None) -> None:
        self._body = body
        self._value = value

    async def run(self, namespace: dict[str, object]) -> object:
        """Runs every statement; the value of the last expression, or `None`."""
        await _evaluate(self._body, namespace)
        if self._value is None:
            return None
        return await _evaluate(self._value, namespace)


class Compiler:
    """Compiles executions and remembers their source lines for tracebacks."""

    def __init__(self) -> None:
        self._count = 0
        self._names: deque[str] = deque()

    def compile(self, source: str) -> Program:
        """Raises `SyntaxError` and what else `compile` raises, such as `ValueError` on NUL bytes."""
        # As in a file: a mark of the byte order is no part of the code.
        source = source.removeprefix("\ufeff")
        self._count += 1
        name = f"<cell {self._count}>"
        self._remember(name, source)
        tree = compile(source, name, "exec", FLAGS | ast.PyCF_ONLY_AST, dont_inherit=True)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        body = compile(tree, name, "exec", FLAGS, dont_inherit=True)
        if not isinstance(last, ast.Expr):
            return Program(body, None)
        # `from __future__ import …` in the body holds for the last line, too.
        flags = FLAGS | (body.co_flags & _FUTURE_FLAGS)
        value = cast("CodeType", compile(ast.Expression(last.value), name, "eval", flags, dont_inherit=True))
        return Program(body, value)

    def _remember(self, name: str, source: str) -> None:
        self._names.append(name)
        if len(self._names) > KEPT_SOURCES:
            linecache.cache.pop(self._names.popleft(), None)
        # No modification time: `linecache.checkcache` then leaves the entry alone.
        linecache.cache[name] = (
            len(source),
            None,
            source.splitlines(keepends=True),
            name,
        )


async def _evaluate(code: CodeType, namespace: dict[str, object]) -> object:
    value: object = eval(code, namespace)  # noqa: S307 — running code is what this is for
    if code.co_flags & inspect.CO_COROUTINE and inspect.iscoroutine(value):
        return await value
    return value


def _future_flags() -> int:
    import __future__

    flags = 0
    for name in __future__.all_feature_names:
        flags |= getattr(__future__, name).compiler_flag
    return flags


_FUTURE_FLAGS: Final = _future_flags()
