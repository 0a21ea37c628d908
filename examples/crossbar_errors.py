"""What makes an array of memory devices err?  ``python examples/crossbar_errors.py --device pcm --time 86400``.

Random weights are written into arrays and read with spikes.  Each cause acts alone on else ideal arrays, then all
together; the error is the root mean square over chips, in percent of that of the exact products.  What is known of
resistive memory over time holds the errors of writing.  One JSON object.
"""

import argparse
import json
from dataclasses import replace

import torch
from torch import Tensor

from spikeport.hardware.analog.crossbar import Crossbar, program
from spikeport.hardware.analog.device import Device
from spikeport.hardware.analog.device_file import load_device
from spikeport.hardware.analog.seeds import generators


def causes(device: Device, adc_bits: int) -> dict[str, Crossbar]:
    """Arrays in which one thing goes wrong."""
    calm = Device(device.name, device.g_min_us, device.g_max_us)
    written = replace(calm, write_us=device.write_us, retention=device.retention[:1])
    aged = replace(device, write_us=(), stuck_on=0.0, stuck_off=0.0, flicker=(), read_noise_us=0.0)
    names = ("flicker", "read_noise_us", "read_time_s", "read_window_s")
    noisy = replace(calm, **{name: getattr(device, name) for name in names})
    return {
        "writing": Crossbar(written),
        "time": Crossbar(aged, compensation=False),
        "time, compensated": Crossbar(aged),
        "noise": Crossbar(noisy),
        "wires": Crossbar(replace(calm, wire_ohm=device.wire_ohm), wires=True),
        f"converters of {adc_bits} bits": Crossbar(calm, adc_bits=adc_bits),
        "all": Crossbar(device, adc_bits=adc_bits, wires=True),
    }


def error(crossbar: Crossbar, weight: Tensor, spikes: Tensor, chips: int, time_s: float) -> float:
    """Percent of the exact products."""
    known = crossbar.device.times_s
    time_s = known[0] if known and time_s not in known else time_s
    array = program(weight, crossbar, instances=chips, seed=0).at(time_s, seed=0).calibrated(spikes)
    exact = spikes @ weight.T
    found = array.read(spikes, generators(chips, 0, "read"))
    return 100 * float((found - exact).square().mean().sqrt() / exact.square().mean().sqrt())


def main() -> None:
    """Measure every cause."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="pcm")
    parser.add_argument("--time", type=float, default=86400.0, help="seconds after writing")
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--chips", type=int, default=5)
    parser.add_argument("--adc-bits", type=int, default=8)
    options = parser.parse_args()
    torch.manual_seed(0)
    weight = torch.randn(options.columns, options.rows)
    spikes = (torch.rand(1, 200, options.rows) < 0.2).float()
    device = load_device(options.device)
    device.check_time(options.time)
    found = {
        cause: round(error(crossbar, weight, spikes, options.chips, options.time), 3)
        for cause, crossbar in causes(device, options.adc_bits).items()
    }
    print(json.dumps({"device": device.name, "time_s": options.time, "error_percent": found}))


if __name__ == "__main__":
    main()
