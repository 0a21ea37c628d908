"""How units are wired and run."""

from .chain import Chain, Feedback, Residual
from .recording import Run, run

__all__ = ["Chain", "Feedback", "Residual", "Run", "run"]
