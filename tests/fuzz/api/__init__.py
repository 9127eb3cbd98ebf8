"""Fuzzes the public API: every public call, with hostile arguments and hostile files.

    python -m tests.fuzz.api.run --seed 0 --seconds 60

A call may return, or raise an AerogelError; anything else is a fault of ours: another exception, a crash, a wait, or memory
without end. What Python itself says of wrong argument names and counts is never asked for.
"""
