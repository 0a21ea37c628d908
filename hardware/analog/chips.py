"""A whole network on crossbars: its weights written into many chips at once, and looked at some time later."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b

import torch
from torch import Tensor

from ..._check import RangeError
from ...networks.graph import Graph, Node
from ..forms import Form
from .array import Array, Tile
from .crossbar import Crossbar, Programmed, program
from .synapse import Synapse, require_mappable, taps, weight_rows

__all__ = ["Chips", "Correction", "ProgrammedNetwork", "node_seed", "program_network"]


@dataclass(frozen=True, eq=False)
class Correction:
    """What is done digitally to a neuron's current on each chip: gain * current + bias[t].

    gain: (instances, channels); dividing a neuron's threshold, bias and start by it does the same.  bias: (steps,
    instances, channels), its last row for all later steps.  axis: of the channels among the features.
    """

    gain: Tensor
    bias: Tensor
    axis: int = 0

    def __call__(self, x: Tensor, when: Tensor) -> Tensor:
        """Apply it to x (steps or 1, batch, *features); when: (steps, batch), the step of each sample, from 0."""
        instances = len(self.gain)
        chip = torch.arange(x.shape[1]) // (x.shape[1] // instances)
        bias = self.bias[when.clamp(max=len(self.bias) - 1), chip]  # (steps, batch, channels)
        shape = [1] * (x.ndim - 2)
        shape[self.axis] = -1
        gain = self.gain[chip].reshape(1, len(chip), *shape)
        return x * gain.to(x.dtype) + bias.reshape(*bias.shape[:2], *shape).to(x.dtype)


@dataclass(frozen=True, eq=False)
class Chips:
    """A network on ``instances`` chips, ``time_s`` seconds after it was written.

    arrays: by node.  seed: of the read noise.  held: nodes that are read once a sample and held, where their input is
    constant.  corrections: by neuron node (or the output).
    """

    graph: Graph
    crossbar: Crossbar
    arrays: Mapping[str, Array]
    instances: int
    seed: int
    time_s: float
    held: frozenset[str] = frozenset()
    corrections: Mapping[str, Correction] = field(default_factory=dict)

    def with_arrays(self, arrays: Mapping[str, Array]) -> "Chips":
        """The same chips with other converters."""
        return replace(self, arrays=arrays)

    def corrected(self, corrections: Mapping[str, Correction]) -> "Chips":
        """The same chips with other corrections."""
        return replace(self, corrections=corrections)

    def only(self, chip: int) -> "Chips":
        """One of the chips, by its number."""
        arrays = {
            name: replace(array, tiles=tuple(_only(tile, chip) for tile in array.tiles))
            for name, array in self.arrays.items()
        }
        return replace(self, arrays=arrays, instances=1, corrections={})

    def synapses(self, *, whole: bool = False) -> dict[str, Synapse]:
        """A reader for each node on arrays.  Nodes of one channel of 0 and 1 are known by their source, a neuron."""
        return {
            name: Synapse(
                self.graph.by_name[name],
                array,
                self.graph.shapes[name],
                spikes=_binary(self.graph, self.graph.by_name[name]),
                whole=whole,
            )
            for name, array in self.arrays.items()
        }


@dataclass(frozen=True, eq=False)
class ProgrammedNetwork:
    """A network written into chips; ``at`` says what has become of them."""

    graph: Graph
    crossbar: Crossbar
    programmed: Mapping[str, Programmed]
    instances: int
    seed: int

    def at(self, time_s: float, *, seed: int | None = None, held: frozenset[str] = frozenset()) -> Chips:
        """The chips ``time_s`` seconds after they were written; seed: of noise since then, by default the chips' own.

        Raises RangeError for a time that the device's data do not speak of.
        """
        seed = self.seed if seed is None else seed
        arrays = {name: each.at(time_s, seed=node_seed(seed, name)) for name, each in self.programmed.items()}
        return Chips(self.graph, self.crossbar, arrays, self.instances, seed, float(time_s), held)


def program_network(
    graph: Graph,
    crossbar: Crossbar,
    *,
    instances: int,
    seed: int,
    forms: Mapping[str, Form] | None = None,
) -> ProgrammedNetwork:
    """Write the weights of every linear layer and convolution into chips; all else stays digital.

    Biases, scales by channel, thresholds, membranes, pools and products of activations are digital.  forms: of an
    integer network, whose wide sums are carried in float64.
    Raises UnsupportedError that names what no array holds, RangeError for no instances and what programming refuses.
    """
    if instances < 1:
        raise RangeError(f"{instances} instances were asked for; one at least is needed.")
    programmed = {
        node.name: program(
            weight_rows(node, _dtype(node, forms)),
            crossbar,
            instances=instances,
            seed=node_seed(seed, node.name),
            groups_of_rows=taps(node),
        )
        for node in require_mappable(graph, crossbar.tile_rows)
    }
    return ProgrammedNetwork(graph, crossbar, programmed, instances, seed)


def node_seed(seed: int, name: str) -> int:
    """A seed for each layer: a pure function of the network's seed and the node's name."""
    return int.from_bytes(blake2b(repr((seed, name)).encode(), digest_size=8).digest(), "little") >> 1


def _dtype(node: Node, forms: Mapping[str, Form] | None) -> torch.dtype:
    wide = forms is not None and forms[node.name].dtype == torch.float64
    return torch.float64 if wide else torch.float32


def _binary(graph: Graph, node: Node) -> bool:
    source = graph.by_name[node.sources[0]]
    while source.operator in ("flatten", "reshape", "transpose", "delay"):
        source = graph.by_name[source.sources[0]]
    return source.operator == "neuron" and source.attributes["code"] == "binary"


def _only(tile: Tile, chip: int) -> Tile:
    rows = slice(chip, chip + 1)
    return replace(
        tile,
        weight=tile.weight[rows],
        variance=None if tile.variance is None else tile.variance[rows],
        reach=None if tile.reach is None else tile.reach[rows],
    )
