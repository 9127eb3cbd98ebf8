"""Export of any checkpoint that aerogel reads, as a plain dense folder."""

from __future__ import annotations

from aerogel.exporting.folder import DTYPES, ExportReport, export

__all__ = ["DTYPES", "ExportReport", "export"]
