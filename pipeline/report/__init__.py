"""The report of a run: one self-contained page."""

from pipeline.report.build import build_report

__all__ = ["build_report"]
