"""Curves for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._check import BackendUnavailable

__all__ = ["Board"]

_EVERY = 10  # steps between two points of the loss


class Board:
    """Writes curves into ``folder``; with ``folder`` None it writes nothing.

    step: where the curves go on; what a killed run wrote behind it is hidden.
    Raises BackendUnavailable without tensorboard.
    """

    def __init__(self, folder: Path | None, step: int = 0) -> None:
        self._writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise BackendUnavailable(
                "curves need TensorBoard: pip install spikeport[train], or set tensorboard = false."
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=step or None)

    def step(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point of each value, for every tenth step."""
        if self._writer is not None and step % _EVERY == 0:
            self._add(step, values)

    def epoch(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point of each value, and write to disk."""
        if self._writer is not None:
            self._add(step, values)
            self._writer.flush()

    def close(self) -> None:
        """End writing."""
        if self._writer is not None:
            self._writer.close()

    def _add(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
