"""The machine: CPU, instruction set, versions, and its measured peak rates."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from datetime import datetime, timezone
from typing import Any

from aerogel._core import compiler, cpu_name
from aerogel._core import isa as active_isa
from aerogel._core import limits as measure_limits
from aerogel._util.checks import thread_count
from aerogel._util.version import __version__


def machine(threads: int | None = None, limits: bool = True) -> dict[str, Any]:
    """The facts that belong to every measurement: CPU, instruction set, versions, and measured peak rates.

    Args:
        threads: number of threads that the limits are measured with; the process's cores unless given.
        limits: measure them, which takes about a second: multiply-adds of int8 and fp32 and reads from the second and the
            last cache and from memory, in 1e9 a second, with one thread ("limits_1") and with all ("limits").
    """
    count = thread_count(threads)
    found: dict[str, Any] = {
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": cpu_name() or platform.processor(),
        "isa": active_isa(),
        "threads": count,
        "system": platform.platform(),
        "python": platform.python_version(),
        "compiler": compiler(),
        "aerogel": __version__,
        "numpy": importlib.metadata.version("numpy"),
    }
    if limits:
        found["limits_1"] = dict(_limits(1))
        found["limits"] = dict(_limits(count))
    return found


@functools.cache
def _limits(threads: int) -> dict[str, Any]:
    """Measured once a process: they are the machine's, not the moment's."""
    return measure_limits(threads)


def limits_line(limits: dict[str, Any]) -> str:
    """One set of limits as a line of text."""
    return (
        f"{limits['threads']} thread{'s' if limits['threads'] > 1 else ''}: "
        f"int8 {limits['int8_gmacs']:.0f}, fp32 {limits['fp32_gmacs']:.0f} GMAC/s; "
        f"reads L2 {limits['l2_gbs']:.0f}, L3 {limits['l3_gbs']:.0f}, DRAM {limits['dram_gbs']:.1f} GB/s"
    )


def rates(
    limits: dict[str, Any], precision: str, macs: float, weight_bytes: float, ms: float, one_token: bool
) -> dict[str, float | str]:
    """What a call did a second, and which share of the machine's limit that is.

    Args:
        macs: multiply-adds of the call: all of a dense layer's, a sparse one's nonzeros.
        weight_bytes: bytes of weights that one token reads.
        one_token: its bound is reading the weights, from the memory that they fit in.
    """
    gmacs = macs / ms / 1e6
    peak = limits["int8_gmacs" if precision == "int8" else "fp32_gmacs"]
    result: dict[str, float | str] = {"gmacs": gmacs, "share": gmacs / peak}
    if one_token and weight_bytes:
        source = "dram"
        if weight_bytes < limits["l2_bytes"] * limits["threads"]:
            source = "l2"
        elif weight_bytes < limits["l3_bytes"]:
            source = "l3"
        gbs = weight_bytes / ms / 1e6
        result |= {"gbs": gbs, "gbs_share": gbs / limits[f"{source}_gbs"], "from": source}
    return result
