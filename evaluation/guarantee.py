"""What a user may have guaranteed of early exit, as the command line says it."""

import re
from dataclasses import dataclass
from typing import Any

import torch

from .._check import RangeError, SpikeportError
from ..inference import AnyRule, ConformalExit, calibrate_coverage, control_loss
from .convert import ExitData

__all__ = ["Guarantee", "parse_guarantee"]


@dataclass(frozen=True)
class Guarantee:
    """kind "coverage": the prediction set at the decision holds the true class with probability ``level``.

    kind "loss": with probability ``confidence`` over calibration samples, accuracy falls by at most ``level``.
    """

    kind: str
    level: float
    confidence: float = 0.95

    def rule(self, exit_data: ExitData, *, seed: int = 0) -> tuple[AnyRule, dict[str, Any]]:
        """The rule calibrated on the exit split, and what the report says of it.

        Raises SpikeportError without true labels, RangeError for too few samples (it says how many are needed).
        """
        if not exit_data.labelled:
            raise SpikeportError(
                "a guarantee needs true labels, and the calibration data had none; convert with labels"
            )
        outputs, labels = torch.from_numpy(exit_data.outputs), torch.from_numpy(exit_data.labels)
        if self.kind == "coverage":
            rule = calibrate_coverage(outputs, labels, coverage=self.level)
            return rule, {"kind": "coverage", "coverage": self.level, "checkpoints": list(rule.checkpoints)}
        found = control_loss(outputs, labels, epsilon=self.level, delta=1 - self.confidence, seed=seed)
        return found.rule, {
            "kind": "loss",
            "loss": self.level,
            "confidence": self.confidence,
            "n_tested": found.n,
            "lost_on_calibration": found.lost,
            "p_value": found.p_value,
        }


def parse_guarantee(text: str) -> Guarantee:
    """Read ``coverage:0.95`` or ``loss:0.005@0.95``; raises RangeError for anything else.

    >>> parse_guarantee("loss:0.005@0.9").confidence
    0.9
    """
    number = r"(\d*\.?\d+(?:[eE]-?\d+)?)"
    covered, lost = re.fullmatch(f"coverage:{number}", text), re.fullmatch(f"loss:{number}@{number}", text)
    values = [float(value) for match in (covered, lost) if match for value in match.groups()]
    if not values or not all(0 < value < 1 for value in values):
        raise RangeError(
            f"the guarantee is {text!r}, but coverage:0.95 or loss:0.005@0.95 was wanted (shares between 0 and 1, ends "
            "excluded)"
        )
    return Guarantee("coverage", values[0]) if covered else Guarantee("loss", *values)


def measured_sets(rule: ConformalExit, outputs: Any, decisions: Any, labels: Any) -> dict[str, float]:
    """How often the sets at the decisions hold the label, and how many classes they hold."""
    sets = rule.sets(outputs, decisions)
    held = sets[torch.arange(len(labels)), labels].double()
    return {"measured_coverage": float(held.mean()), "mean_set_size": float(sets.sum(1).double().mean())}
