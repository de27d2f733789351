"""Runs Python executions of one session in one persistent namespace.

`channel` speaks the frames, `program` compiles and runs code, `outcome` words errors and exit codes,
`result` words values, `browser` binds `page`, `guard` undoes what user code did to the interpreter,
`packages` finds what pip installed, and `runner` puts them together on one asyncio event loop, which
user code shares.
"""
