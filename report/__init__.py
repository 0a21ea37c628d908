"""From a report.json to one self-contained page."""
