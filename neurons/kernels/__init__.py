"""One file a target; ``fire`` takes the one that fits the tensor's device.

``reference`` is plain PyTorch and the oracle; ``cpu`` is numba.
"""

from .dispatch import fire, replay
from .reference import NeuronArrays, fire_reference

__all__ = ["NeuronArrays", "fire", "fire_reference", "replay"]
