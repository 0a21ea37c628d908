"""The same network on the torch tiles of IBM's aihwkit, one chip at a time: another's simulator as executor.

aihwkit (1.1.0) is no dependency of spikeport; its tiles have neither noise from read to read, nor wires, nor stuck
devices, nor slices, and its converters share one range.  What a `Crossbar` asks of that kind is refused by name.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ..._check import BackendUnavailable, UnsupportedError
from ...networks.engine import Engine
from ...networks.graph import Graph, Node
from .crossbar import Crossbar
from .device_file import load_device
from .mapping import cut_rows

__all__ = ["AihwkitEngine", "aihwkit_layers"]

_DEVICES = ("ideal", "pcm", "reram")
_OUTPUT_BOUND = 12.0  # aihwkit's own range of a column converter, in units of the largest weight of a column


class AihwkitEngine(Engine):
    """Runs a Graph whose linear layers and convolutions are aihwkit's, ``time_s`` seconds after they were written.

    layers: aihwkit's, by node.
    Raises BackendUnavailable where aihwkit is not installed, and what `aihwkit_layers` raises.
    """

    def __init__(
        self,
        graph: Graph,
        crossbar: Crossbar,
        *,
        time_s: float,
        seed: int,
        max_steps: int,
        chunk: int = 4,
        constant_input: bool = True,
    ) -> None:
        self.layers = aihwkit_layers(graph, crossbar, time_s=time_s, seed=seed)
        super().__init__(graph, max_steps=max_steps, chunk=chunk, constant_input=constant_input)

    def _call(self, node: Node, inputs: list[Tensor]) -> Tensor:
        if node.name not in self.layers:
            return super()._call(node, inputs)
        result: Tensor = self.layers[node.name](inputs[0])
        return result


def aihwkit_layers(graph: Graph, crossbar: Crossbar, *, time_s: float, seed: int) -> dict[str, nn.Module]:
    """aihwkit's layer for each linear layer and convolution of the graph, by node, written and drifted.

    Raises BackendUnavailable without aihwkit, UnsupportedError that names what its torch tiles cannot do, RangeError
    for a time that the device's data do not speak of.
    """
    try:
        from aihwkit.nn.conversion import convert_to_analog
    except (ImportError, OSError, RuntimeError) as error:  # it asks for torchvision, which may be there and broken
        raise BackendUnavailable(f"aihwkit cannot be imported ({error}); pip install aihwkit==1.1.0") from None
    _require_supported(graph, crossbar)
    crossbar.device.check_time(time_s)
    layers = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # aihwkit draws from torch's one generator
        for node in graph.nodes:
            if node.operator in ("linear", "conv1d", "conv2d"):
                layer = convert_to_analog(_digital(node), _configuration(crossbar)).eval()
                if crossbar.device.name != "ideal":
                    layer.drift_analog_weights(time_s)
                layers[node.name] = layer
    return layers


def _require_supported(graph: Graph, crossbar: Crossbar) -> None:
    device, problems = crossbar.device, []
    if device.name not in _DEVICES or device != load_device(device.name):
        problems.append(f"the device {device.name!r} (it has models of {', '.join(_DEVICES)} as they come)")
    if crossbar.slices > 1:
        problems.append("slices")
    if crossbar.wires:
        problems.append("wires")
    if crossbar.scale != "maximum":
        problems.append(f"scale {crossbar.scale!r} (it knows 'maximum')")
    for node in graph.nodes:
        if node.operator.startswith("conv") and node.attributes["groups"] != 1:
            problems.append(f"{node.name} (a grouped convolution)")
        elif node.operator.startswith("conv"):
            cut_rows(int(node.arrays["weight"][0].size), crossbar.tile_rows, int(node.arrays["weight"][0, 0].size))
    if problems:
        raise UnsupportedError("aihwkit's torch tiles lack", problems)


def _configuration(crossbar: Crossbar) -> Any:
    """TorchInferenceRPUConfig of the crossbar: no noise but the device's, inputs as they are, one range for outputs."""
    from aihwkit.inference import GlobalDriftCompensation, PCMLikeNoiseModel, ReRamWan2022NoiseModel
    from aihwkit.simulator.configs import TorchInferenceRPUConfig
    from aihwkit.simulator.parameters.enums import BoundManagementType, NoiseManagementType

    models: Mapping[str, Any] = {"pcm": PCMLikeNoiseModel, "reram": ReRamWan2022NoiseModel}
    config = TorchInferenceRPUConfig()
    if crossbar.device.name in models:
        config.noise_model = models[crossbar.device.name](g_max=crossbar.device.g_max_us)
    config.drift_compensation = GlobalDriftCompensation() if crossbar.compensation else None
    config.mapping.max_input_size, config.mapping.max_output_size = crossbar.tile_rows, crossbar.tile_columns
    config.mapping.weight_scaling_omega, config.mapping.weight_scaling_columnwise = 1.0, True
    config.mapping.digital_bias = True
    forward = config.forward
    forward.inp_noise = forward.out_noise = 0.0
    forward.bound_management = BoundManagementType.NONE
    if crossbar.dac_bits is None:
        forward.inp_res, forward.inp_bound, forward.noise_management = -1, 0.0, NoiseManagementType.NONE
    else:
        forward.inp_res, forward.inp_bound = 1 / (2 ** (crossbar.dac_bits + 1) - 2), 1.0
        forward.noise_management = NoiseManagementType.ABS_MAX
    if crossbar.adc_bits is None:
        forward.out_res, forward.out_bound = -1, 0.0
    else:
        forward.out_res, forward.out_bound = 1 / (2**crossbar.adc_bits - 2), _OUTPUT_BOUND
    return config


def _digital(node: Node) -> nn.Module:
    """The node as a layer of torch."""
    weight = torch.tensor(node.arrays["weight"])
    bias = node.arrays.get("bias")
    layer: Any
    if node.operator == "linear":
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    else:
        kind = nn.Conv2d if node.operator == "conv2d" else nn.Conv1d
        window = {key: tuple(node.attributes[key]) for key in ("stride", "padding", "dilation")}
        sizes = tuple(weight.shape[2:])
        layer = kind(weight.shape[1], weight.shape[0], sizes, bias=bias is not None, **window)  # type: ignore[arg-type]
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer  # type: ignore[no-any-return]
