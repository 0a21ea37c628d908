"""What can go wrong in a network's memory and on its wires: rates by what they hit.

Stored values (``STORED``, cells, dead neurons) go wrong once, before the run: ``stored_faults`` makes another network
of the network, which runs wherever networks run.  Spikes and states go wrong while it runs: ``transient``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from .._check import RangeError, SpikeportError
from .graph import Graph

__all__ = ["STORED", "Faults", "require_layers"]

STORED: Mapping[str, frozenset[str]] = {  # target -> the arrays that its bits are in
    "weights": frozenset({"weight", "factor"}),
    "biases": frozenset({"bias", "shift", "values"}),
    "thresholds": frozenset({"threshold"}),
    "initial": frozenset({"initial"}),
    "bounds": frozenset({"ceiling", "bound", "limit"}),
}


@dataclass(frozen=True)
class Faults:
    """Rates from 0 to 1.

    weights, biases, thresholds, initial (membranes), bounds (of protection): the probability that a stored bit is
    flipped.  stuck_at_0, stuck_at_1: the shares of the bits of weights that always read so.  dead_neurons: the share
    of units that never fire (or always give 0).  dropped_spikes: the probability that a spike is lost on its way.
    state: the probability that a bit of a membrane or of a synaptic current flips, after each step.
    layers: the nodes that are hit; all of them where it is empty.
    Raises RangeError for what is no rate, and where cells are stuck at both.

    >>> Faults(weights=1e-4).stored, Faults(dropped_spikes=0.1).transient
    (True, True)
    """

    weights: float = 0.0
    biases: float = 0.0
    thresholds: float = 0.0
    initial: float = 0.0
    bounds: float = 0.0
    stuck_at_0: float = 0.0
    stuck_at_1: float = 0.0
    dead_neurons: float = 0.0
    dropped_spikes: float = 0.0
    state: float = 0.0
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [
            f"{name} is {rate!r}"
            for name, rate in self.rates.items()
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1
        ]
        if wrong:
            raise RangeError(f"a rate lies between 0 and 1, but {', '.join(wrong)}")
        if self.stuck_at_0 + self.stuck_at_1 > 1:
            raise RangeError(
                f"{self.stuck_at_0} of the bits are stuck at 0 and {self.stuck_at_1} at 1; a bit is stuck at one of "
                "them, so both together must be at most 1"
            )

    @property
    def rates(self) -> dict[str, float]:
        """Every rate by its name."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "layers"}

    @property
    def stored(self) -> bool:
        """Whether a value that is stored can go wrong."""
        return any(rate for name, rate in self.rates.items() if name not in ("dropped_spikes", "state"))

    @property
    def transient(self) -> bool:
        """Whether something can go wrong during the run."""
        return bool(self.dropped_spikes or self.state)

    def hits(self, layer: str) -> bool:
        """Whether the node of that name is among those that are hit."""
        return not self.layers or layer in self.layers

    def to_json(self) -> dict[str, object]:
        """What is not 0, as JSON."""
        return {name: list(value) if name == "layers" else value for name, value in asdict(self).items() if value}


def require_layers(faults: Faults, graph: Graph) -> None:
    """Raise SpikeportError that lists the layers that the network does not have."""
    unknown = [name for name in faults.layers if name not in graph.by_name]
    if unknown:
        known = ", ".join(node.name for node in graph.nodes if node.arrays)
        raise SpikeportError(f"the network has no layers {', '.join(unknown)}; those with arrays are {known}")
