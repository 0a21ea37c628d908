"""Turn the JSON of a conversion and its evaluation into one self-contained HTML page."""

from .page import render_report

__all__ = ["render_report"]
