"""A network on simulated crossbars: accuracy over many chips, its spread, steps to a decision, energy and area."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .._check import RangeError, SpikeportError
from ..data import Dataset, refuse_shared
from ..hardware.analog.chips import Chips
from ..hardware.analog.crossbar import Crossbar
from ..hardware.analog.device_file import load_device
from ..hardware.analog.integer import AnalogSession
from ..hardware.analog.prices import analog_area, analog_bill
from ..hardware.backend import Recording, compare, reference_recording
from ..hardware.program import IntegerProgram
from ..inference import AnyRule, FixedSteps, decide, exit_curve, mean_interval, percentile_steps
from ..networks.outputs import outputs_of
from ..networks.transient import Transient
from .chips import ChipActivity, chip_activity, network_on_chips, reads_until
from .convert import ExitData, Progress, require_labels
from .engines import Network, engine_of, graph_of
from .evaluate import policy_name
from .policies import Policy
from .recalibrate import recalibrate
from .recordings import framing_of

__all__ = ["AnalogDesign", "analog_result", "compared", "device_of", "measure_on_chips", "run_on_chips", "spread"]

_POINTS = 40  # of the curve of accuracy against mean steps
_COMPARED = 64  # samples a batch of the comparison


@dataclass(frozen=True)
class AnalogDesign:
    """Arrays, the age of what was written into them, and how many chips are simulated."""

    crossbar: Crossbar
    time_s: float
    instances: int = 5
    seed: int = 0

    @classmethod
    def of(
        cls,
        device: str | Path,
        *,
        time_s: float,
        instances: int = 5,
        seed: int = 0,
        compensation: bool = True,
        adc_bits: int | None = None,
        tile: tuple[int, int] | None = None,
    ) -> "AnalogDesign":
        """A design around a device (see ``load_device``); an ideal one keeps whole weights exactly.

        tile: rows and columns of an array, 256 each by default.
        Raises RangeError for a time that the device does not know, no instances and a design that makes no sense.
        """
        held = load_device(device)
        held.check_time(time_s)
        if instances < 1:
            raise RangeError(f"{instances} instances were asked for; one at least is needed.")
        rows, columns = tile or (256, 256)
        scale = "power_of_two" if held.name == "ideal" else "maximum"
        return cls(
            Crossbar(
                held, adc_bits=adc_bits, scale=scale, compensation=compensation, tile_rows=rows, tile_columns=columns
            ),
            time_s,
            instances,
            seed,
        )


def measure_on_chips(  # noqa: PLR0913 - a network, its exit data, samples, a design, and seven options
    network: Network,
    exit_data: ExitData,
    data: Dataset,
    design: AnalogDesign,
    *,
    policy: FixedSteps | Policy | None = None,
    max_loss: float = 0.001,
    steps: int | None = None,
    calibration: Dataset | None = None,
    compare_with: str | None = None,
    prices: str = "isaac",
    transient: Transient | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Write a network into chips, fit them to ``calibration`` samples where there are some, and run ``data`` on them.

    Without calibration samples the exit rule is that of the digital network.  transient: faults during the run, which
    nothing is fitted to; the digital network meets them, too.  The result is the JSON of
    ``spikeport run --backend analog``.
    Raises RangeError for converters with bits and no samples to fit their ranges on, and for samples that are in both
    sets; and what ``network_on_chips``, ``recalibrate`` and ``run_on_chips`` raise.
    """
    policy = policy or Policy()
    _require_comparable(network, compare_with, transient)
    graph = graph_of(network)
    most = network.steps if isinstance(network, IntegerProgram) else len(exit_data.outputs)
    steps = min(most, len(exit_data.outputs)) if steps is None else steps
    if not 1 <= steps <= most:
        raise RangeError(f"{steps} steps were asked for; 1 to {most} are possible here")
    if design.crossbar.adc_bits is not None and calibration is None:
        raise RangeError(
            "the ranges of the converters need samples to be fitted on; hand over calibration samples "
            "(--recalibrate DATA)."
        )
    rule = policy if isinstance(policy, FixedSteps) else policy.rule(exit_data, max_loss=max_loss)
    shared, report = exit_data.calibration_hashes, None
    chips = network_on_chips(
        network, design.crossbar, time_s=design.time_s, instances=design.instances, seed=design.seed
    )  # fmt: skip
    if calibration is not None:
        fitted = recalibrate(
            network, chips, calibration, steps=steps, policy=policy, max_loss=max_loss, refused=data.hashes,
            progress=progress,
        )  # fmt: skip
        chips, rule, report = fitted.chips, fitted.rule, fitted.report
        shared = np.union1d(shared, fitted.hashes)
    result = run_on_chips(
        network, chips, data, steps=steps, rule=rule, compare_with=compare_with, prices=prices, shared=shared,
        transient=transient, progress=progress,
    )  # fmt: skip
    engine = engine_of(network, max_steps=steps, transient=transient)
    digital = outputs_of(engine, graph.shapes[graph.output.name], data.x, steps)
    found = decide(rule, digital).label.numpy()
    return {**result, "recalibrated": report, "digital_accuracy": float((found == data.y).mean())}


def run_on_chips(  # noqa: PLR0913 - a network on chips, data, and six options
    network: Network,
    chips: Chips,
    data: Dataset,
    *,
    steps: int,
    rule: AnyRule,
    compare_with: str | None = None,
    prices: str = "isaac",
    shared: np.ndarray | None = None,
    transient: Transient | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run all samples on all chips for ``steps`` steps and decide by ``rule``; the JSON of ``spikeport run``.

    network: a Graph in real numbers or an IntegerProgram, the one that the chips were made of.  compare_with:
    "reference" compares every spike of an integer network on every chip.  prices: a scheme of ``price_schemes``.
    shared: hashes of samples that must not be among ``data`` (the calibration's).  transient: faults during the run.
    Raises RangeError for steps that the rule cannot meet, SpikeportError without labels, and what the parts raise.
    """
    tell = progress or (lambda stage, done: None)
    if not rule.min_steps <= steps:
        raise RangeError(f"{steps} steps were asked for; the rule needs {rule.min_steps} at least")
    _require_comparable(network, compare_with, transient)
    if shared is not None:
        refuse_shared(data.hashes, shared)
    graph = graph_of(network)
    if data.y is None:
        raise SpikeportError(f"{data.name} has no labels, so chips cannot be compared; add labels")
    require_labels("the labels", data.y, graph.shapes[graph.output.name][0])
    began = time.perf_counter()
    activity = chip_activity(
        network, chips, data.x, steps, transient=transient, progress=lambda done: tell("run on analog", done)
    )
    seconds = time.perf_counter() - began
    agreement = None
    if isinstance(network, IntegerProgram) and compare_with is not None:
        tell("compare with the reference", 0.0)
        agreement = compared(network, chips, data.x, steps)
    return {
        "backend": "analog",
        "data": data.name,
        "n": len(data),
        "timesteps": steps,
        "seconds": seconds,
        "agreement": agreement,
        **analog_result(network, chips, activity, torch.from_numpy(data.y), rule, prices),
    }


def _require_comparable(network: Network, compare_with: str | None, transient: Transient | None) -> None:
    if compare_with is not None and (compare_with != "reference" or not isinstance(network, IntegerProgram)):
        raise SpikeportError(f"agreement with {compare_with!r} cannot be measured; take an integer network, reference")
    if compare_with is not None and transient is not None:
        raise SpikeportError("chips with faults during the run cannot be compared with the reference; leave one out")


def analog_result(
    network: Network, chips: Chips, activity: ChipActivity, labels: Tensor, rule: AnyRule, prices: str
) -> dict[str, Any]:
    """What a run says: accuracy over chips, steps, energy, and what the converters did."""
    steps, instances, n = activity.outputs.shape[:3]
    flat, truth = activity.outputs.flatten(1, 2), labels.repeat(instances)
    decisions = decide(rule, flat)
    right = (decisions.label == truth).view(instances, n).double().mean(1)
    decided = decisions.steps.view(instances, n)
    at = flat.argmax(-1).view(steps, instances, n) == labels
    fixed = at.double().mean(2)
    accuracy = spread(right)
    return {
        "accuracy": accuracy["mean"],
        "accuracy_ci95": accuracy["ci95"],
        "policy": policy_name(rule),
        "rule": str(rule),
        "mean_steps": float(decided.double().mean()),
        "p95_steps": percentile_steps(decisions.steps),
        "spikes_per_layer": _spikes(activity, decided),
        "device": device_of(chips.crossbar),
        "time_seconds": chips.time_s,
        "instances": instances,
        "seed": chips.seed,
        "accuracy_over_chips": accuracy,
        "all_steps": spread(fixed[-1]),
        "accuracy_by_step": fixed.mean(1).tolist(),
        "lowest_by_step": fixed.amin(1).tolist(),
        "highest_by_step": fixed.amax(1).tolist(),
        "dynamic": _dynamic(rule, flat, truth),
        "energy": _energy(network, chips, activity, decided, prices),
        "converters": {
            "bits": chips.crossbar.adc_bits,
            "conversions": activity.conversions,
            "saturated": activity.saturated / max(activity.conversions, 1),
        },
    }


def spread(values: Tensor) -> dict[str, Any]:
    """The mean over chips with its 95 % interval (bootstrap), standard deviation, ends, and each chip's value."""
    ends = mean_interval(values)
    return {
        "mean": ends.value,
        "ci95": [ends.low, ends.high] if len(values) > 1 else None,
        "deviation": float(values.std()) if len(values) > 1 else None,
        "lowest": float(values.min()),
        "highest": float(values.max()),
        "by_chip": values.tolist(),
    }


def compared(program: IntegerProgram, chips: Chips, x: np.ndarray, steps: int) -> dict[str, Any]:
    """Every spike and output of every chip against the NumPy reference."""
    names = [node.name for node in program.neurons]
    constant = framing_of(program.graph) is None
    values, mismatches, earliest = 0, 0, None
    with AnalogSession(program, chips) as session:
        for first in range(0, len(x), _COMPARED):
            block = x[first : first + _COMPARED]
            block = block if constant else np.ascontiguousarray(block[:, :steps].swapaxes(0, 1))
            session.start(block, constant=constant)
            found = session.advance(steps, record=names)
            wanted = reference_recording(program, block, steps, constant=constant, record=names)
            size = wanted.output.shape[1]
            for chip in range(chips.instances):
                rows = slice(chip * size, (chip + 1) * size)
                one = Recording(found.output[:, rows], {k: v[:, rows] for k, v in found.spikes.items()})
                agreement = compare(one, wanted)
                values, mismatches = values + agreement.spikes_compared, mismatches + agreement.mismatches
                found_first = agreement.first_divergence
                if found_first is not None and (earliest is None or found_first.step < earliest["step"]):
                    earliest = {**found_first._asdict(), "sample": first + found_first.sample, "chip": chip}
    return {"with": "reference", "spikes_compared": values, "mismatches": mismatches, "first_divergence": earliest}


def _spikes(activity: ChipActivity, decided: Tensor) -> dict[str, float]:
    """Spikes a sample until it has decided, mean over chips."""
    alive = torch.arange(len(activity.outputs))[:, None, None] < decided
    return {name: float((found * alive).double().sum() / decided.numel()) for name, found in activity.spikes.items()}


def device_of(crossbar: Crossbar) -> dict[str, Any]:
    """The device and the design of the arrays, as JSON."""
    said, device = asdict(crossbar), crossbar.device
    said.pop("device")
    return {"name": device.name, "g_min_us": device.g_min_us, "g_max_us": device.g_max_us, **said}


def _dynamic(rule: AnyRule, outputs: Tensor, labels: Tensor) -> list[list[float]]:
    """Mean steps and accuracy of the rule's score at thresholds from the full run to the earliest exits.

    Looked at on the evaluated data: no threshold is taken from it.
    """
    score = getattr(rule, "score", None)
    if score is None or isinstance(rule, FixedSteps):
        return []
    curve = exit_curve(score, outputs, labels)
    wanted = torch.linspace(float(curve.mean_steps[0]), float(curve.mean_steps[-1]), _POINTS, dtype=torch.float64)
    places = torch.searchsorted(-curve.mean_steps, -wanted).clamp(max=len(curve.steps) - 1).unique()
    return [[float(curve.mean_steps[i]), float(curve.accuracy[i])] for i in places]


def _energy(network: Network, chips: Chips, activity: ChipActivity, decided: Tensor, prices: str) -> Mapping[str, Any]:
    """The bill of a decision with the rule and after all steps, what the rule saves, and the area of the arrays."""
    bills = []
    full = torch.full_like(decided, len(activity.outputs))
    for until in (decided, full):
        layers, updates = reads_until(network, chips, activity, until)
        bills.append(
            analog_bill(layers, chips.crossbar, prices, samples=until.numel(), neuron_updates=updates)
        )  # fmt: skip
    rule, whole = (bill.total for bill in bills)
    return {
        "early_exit": bills[0].to_json(),
        "all_steps": bills[1].to_json(),
        "saving": None if rule is None or not whole else 1 - rule / whole,
        "area": analog_area(layers, chips.crossbar, prices).to_json(),
    }
