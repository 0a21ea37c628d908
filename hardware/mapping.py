"""A network on a chip's cores: how many each layer needs, what does not fit, and how to change it.

Every core of a layer holds the same number of neurons, the largest for which all four limits of a core hold.  Weights
are counted unrolled (a convolution's kernel once for each place), so cores are an upper bound on chips that share them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from .chips import Chip
from .program import IntegerProgram, mantissa
from .stages import Stage, stages

__all__ = ["LayerMapping", "Mapping", "map_to_chip"]


@dataclass(frozen=True)
class LayerMapping:
    """One population on its cores; in_axons, out_axons and synapse_bits are those of its fullest core."""

    name: str
    neurons: int
    cores: int
    neurons_per_core: int
    in_axons: int
    out_axons: int
    synapse_bits: int


@dataclass(frozen=True)
class Mapping:
    """The layers, what the chip cannot hold, and whether everything fits on one chip."""

    chip: Chip
    layers: tuple[LayerMapping, ...]
    violations: tuple[str, ...]
    latency_steps: int

    @property
    def cores(self) -> int:
        """Of all layers."""
        return sum(layer.cores for layer in self.layers)

    @property
    def fits(self) -> bool:
        """Whether one chip holds the network as it is."""
        return not self.violations and self.cores <= self.chip.core.count

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "chip": self.chip.name,
            "approximate": self.chip.approximate,
            "cores": self.cores,
            "cores_of_the_chip": self.chip.core.count,
            "fits": self.fits,
            "violations": list(self.violations),
            "latency": {
                "steps": self.latency_steps,
                "basis": "populations in a row, each of which takes a step on a chip that delivers spikes in the next "
                "step; the time of a step is not published for this network",
            },
            "layers": [vars(layer) for layer in self.layers],
        }


def map_to_chip(program: IntegerProgram, chip: Chip) -> Mapping:
    """Place every population of a program, from the last to the first, and list what the chip cannot do."""
    found = stages(program)
    placed = [stage for stage in found if stage.kind in ("neuron", "filter", "max")]
    violations = [said for stage in placed for said in _objections(stage, chip)]
    sizes = {stage.name: _largest_block(stage, chip) for stage in placed}
    for stage in placed:
        if not sizes[stage.name]:
            sizes[stage.name] = 1
            inputs, bits = int(_in_axons(stage, 1).max()), int(_bits(stage, 1, chip).max())
            violations.append(
                f"{stage.name}: one neuron alone needs {inputs} inputs and {bits} synapse bits; split the layer, use "
                "fewer channels or fewer weight bits"
            )
    layers = [_placed(stage, found, sizes, chip) for stage in reversed(placed)]
    violations += [
        f"{layer.name}: a neuron reaches {layer.out_axons} cores; narrow the next layer"
        for layer in layers
        if layer.out_axons > chip.core.out_axons
    ]
    cores = sum(layer.cores for layer in layers)
    if cores > chip.core.count:
        violations.append(
            f"the network needs {cores} cores and the chip has {chip.core.count}; use {-(-cores // chip.core.count)} "
            "chips, fewer channels or fewer weight bits"
        )
    return Mapping(chip, tuple(reversed(layers)), tuple(violations), _depth(found))


def _placed(stage: Stage, found: Sequence[Stage], sizes: dict[str, int], chip: Chip) -> LayerMapping:
    """Halve the neurons of a core until its out-axons fit; ``sizes`` takes what comes of it."""
    size = sizes[stage.name]
    out = _out_axons(stage, size, found, sizes)
    while out.max(initial=0) > chip.core.out_axons and size > 1:
        size = max(1, size // 2)
        out = _out_axons(stage, size, found, sizes)
    sizes[stage.name] = size
    return LayerMapping(
        name=stage.name,
        neurons=stage.size,
        cores=-(-stage.size // size),
        neurons_per_core=size,
        in_axons=int(_in_axons(stage, size).max(initial=0)),
        out_axons=int(out.max(initial=0)),
        synapse_bits=int(_bits(stage, size, chip).max(initial=0)),
    )


def _objections(stage: Stage, chip: Chip) -> list[str]:
    """What of a population's numbers the chip cannot hold."""
    limits, said = chip.limits, []
    if stage.kind == "max":
        said.append(f"{stage.name}: no maximum of currents on this chip; use average pooling")
    for projection in stage.projections:
        largest = int(np.abs(mantissa(projection.matrix.data)[0]).max(initial=0))
        if largest.bit_length() > limits.weight_bits:
            said.append(
                f"{stage.name}: weights from {projection.source} have {largest.bit_length()} bits, the chip "
                f"{limits.weight_bits}; lower with fewer weight bits"
            )
        if projection.delay > limits.delay:
            said.append(f"{stage.name}: a delay of {projection.delay} steps, the chip has {limits.delay}; use relays")
    if stage.kind == "neuron":
        said += _of_neurons(stage, chip)
    return said


def _of_neurons(stage: Stage, chip: Chip) -> list[str]:
    limits, said, attributes = chip.limits, [], stage.attributes
    if attributes["code"] not in limits.spikes:
        said.append(f"{stage.name}: {attributes['code']} spikes, the chip has {', '.join(limits.spikes)}; convert anew")
    reset = "subtract (late)" if attributes["late"] else attributes["reset"]
    if reset not in limits.resets and attributes["reset"] not in limits.resets:
        said.append(f"{stage.name}: reset {reset}, the chip has {', '.join(limits.resets)}")
    most = ((1 << limits.threshold_bits) - 1) << limits.threshold_shift
    reachable = stage.arrays["theta"][stage.arrays["theta"] < (1 << 23) - 1]
    if reachable.max(initial=0) > most:
        said.append(f"{stage.name}: a threshold of {int(reachable.max())}, the chip holds {most}")
    bias = stage.arrays["b"] + (stage.bias if len(stage.bias) == stage.size else 0)
    top = (1 << (limits.bias_bits - 1)) - 1 << limits.bias_shift
    if np.abs(bias).max(initial=0) > top:
        said.append(f"{stage.name}: a bias of {int(np.abs(bias).max())}, the chip holds {top}")
    return said


def _pattern(stage: Stage) -> Any:
    """Which inputs each unit reads, as one matrix over all projections (a delay is an input of its own)."""
    parts = [sparse.csr_array(p.matrix != 0, dtype=np.int32) for p in stage.projections]
    joined = sparse.hstack(parts, format="csr") if parts else sparse.csr_array((stage.slots, 1), dtype=np.int32)
    if stage.kind == "max":
        windows = stage.arrays["windows"]
        rows = np.repeat(np.arange(len(windows)), windows.shape[1])
        pick = sparse.csr_array(
            (np.ones(windows.size, np.int32), (rows, windows.reshape(-1))), (len(windows), stage.slots)
        )
        joined = pick @ joined
    return joined[_order(stage)]


def _order(stage: Stage) -> np.ndarray:
    """Units that share inputs lie together: all channels of a place, for populations of channels and places."""
    places = np.arange(stage.size).reshape(stage.shape)
    return np.moveaxis(places, 0, -1).reshape(-1) if len(stage.shape) > 1 else places.reshape(-1)


def _blocks(size: int, block: int) -> Any:
    """(cores, units): which core holds which unit."""
    units = np.arange(size)
    return sparse.csr_array((np.ones(size, np.int32), (units // block, units)), shape=(-(-size // block), size))


def _in_axons(stage: Stage, block: int) -> np.ndarray:
    """For each core, how many different inputs its neurons read."""
    return np.diff((_blocks(stage.size, block) @ _pattern(stage)).indptr)


def _bits(stage: Stage, block: int, chip: Chip) -> np.ndarray:
    """For each core, the bits of its synapses: weight, sign and target index each."""
    synapses = np.diff(_pattern(stage).indptr)
    return np.add.reduceat(synapses, np.arange(0, stage.size, block)) * (
        chip.limits.weight_bits + 1 + chip.limits.index_bits
    )


def _largest_block(stage: Stage, chip: Chip) -> int:
    """The most neurons a core can hold by the first three limits; 0 where not even one fits."""
    pattern, core = _pattern(stage), chip.core
    synapses = np.diff(pattern.indptr)
    per_synapse = chip.limits.weight_bits + 1 + chip.limits.index_bits

    def holds(block: int) -> bool:
        bits = np.add.reduceat(synapses, np.arange(0, stage.size, block)).max() * per_synapse
        if bits > core.synapse_bits:
            return False
        return bool(np.diff((_blocks(stage.size, block) @ pattern).indptr).max() <= core.in_axons)

    low, high = 0, min(core.neurons, stage.size)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low


def _out_axons(stage: Stage, block: int, found: Sequence[Stage], sizes: dict[str, int]) -> np.ndarray:
    """For each core, the pairs of one of its neurons and a core that reads it."""
    reached = np.zeros(stage.size, np.int64)
    for reader in found:
        for projection in reader.projections:
            if projection.source == stage.name and reader.name in sizes and reader.kind != "max":
                pattern = sparse.csr_array(projection.matrix != 0, dtype=np.int32)[_order(reader)]
                cores = _blocks(reader.size, sizes[reader.name]) @ pattern
                reached += np.diff(sparse.csc_array(cores).indptr)
            elif projection.source == stage.name:
                reached += np.diff(sparse.csc_array(projection.matrix).indptr) > 0
    return np.asarray(np.add.reduceat(reached[_order(stage)], np.arange(0, stage.size, block)))


def _depth(found: Sequence[Stage]) -> int:
    """The longest way from the input to the output, in populations (delays come on top)."""
    depth: dict[str, int] = {}
    for stage in found:
        before = [depth[p.source] for p in stage.projections if p.delay == 0 and p.source in depth]
        depth[stage.name] = 0 if stage.kind == "input" else 1 + max(before, default=0)
    return max(depth.values())
