"""One file a target; ``fire`` takes the one that fits the tensor's device.

``reference`` is plain PyTorch and the oracle; ``cpu`` is numba.  ``differential`` and ``differential_cpu`` are the same
for neurons that send changes.
"""

from .differential import DifferentialArrays, follow, follow_reference
from .dispatch import fire, replay
from .reference import NeuronArrays, fire_reference

__all__ = [
    "DifferentialArrays",
    "NeuronArrays",
    "fire",
    "fire_reference",
    "follow",
    "follow_reference",
    "replay",
]
