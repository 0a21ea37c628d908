"""Made-up reports with the shape of real ones."""

import math
from collections.abc import Callable
from typing import Any

import pytest


def _layer(at: int, number: int, steps: int) -> dict[str, Any]:
    return {
        "name": f"features.{at}.conv",
        "source": "conv2d + batch_norm + relu",
        "became": "conv2d + integrate-and-fire",
        "neurons": 4096 // (1 + at % 7),
        "threshold": {"min": 0.31 + 0.01 * at, "mean": 1.02 + 0.02 * at, "max": 2.66 + 0.03 * at},
        "rate_correlation": 0.998 - 0.2 * (at / number) ** 2,
        "rate_error": 0.004 + 0.03 * at / number,
        "dead_fraction": 0.03 + 0.05 * math.sin(at) ** 2,
        "saturated_fraction": 0.002 * (at % 5),
        "spikes_per_sample": 1834.25 * steps / (1 + at % 7),
        "accumulates_per_sample": 0.0 if at == 0 else 152340.5 * steps / (1 + at % 3),
        "multiply_accumulates_per_sample": 442368.0 if at == 0 else 0.0,
    }


def _accuracy(steps: int) -> list[float]:
    return [0.974 - 0.86 * math.exp(-t / 2.6) for t in range(steps)]


def _convert(steps: int, layers: int) -> dict[str, Any]:
    accuracy = _accuracy(steps)
    return {
        "model": "mnist_cnn.onnx",
        "source_sha256": "9f2c41c0" * 8,
        "method": "mse",
        "method_reason": "It loses the least on the samples to choose by: 0.3 points at T = 32.",
        "candidates": [
            {"method": "percentile", "accuracy_at_timesteps": 0.9653, "note": "99.9 % of the activations"},
            {"method": "mse", "accuracy_at_timesteps": 0.9722, "note": "bias corrected"},
            {"method": "ltb", "accuracy_at_timesteps": None, "note": "did not converge: too few samples"},
        ],
        "spikes": "binary",
        "timesteps": steps,
        "seed": 0,
        "n_fit": 1005,
        "n_choose": 216,
        "n_exit": 216,
        "ann_output_max_error": 3.5762787e-07,
        "unsupported": [],
        "notes": ["A softmax at the end was removed: the network returns logits."],
        "files": {"network.safetensors": "1b" * 32, "exit_calibration.npz": "2c" * 32},
        "layers": [_layer(at, layers, steps) for at in range(layers)],
        "n": 216,
        "ann_accuracy": 0.9768518518518519,
        "accuracy_by_step": accuracy,
        "accuracy_ci95_by_step": [[max(0.0, a - 0.025), min(1.0, a + 0.02)] for a in accuracy],
        "steps_within": {"1.0": min(12, steps), "0.5": min(17, steps), "0.1": None},
    }


def _evaluate(steps: int) -> dict[str, Any]:
    accuracy = _accuracy(steps)
    spikes = [311.5 * t for t in range(1, steps + 1)]
    operations = [48211.75 * t for t in range(1, steps + 1)]
    counts = [round(360 * 0.42 * 0.58**t) for t in range(steps)]
    counts[-1] += 360 - sum(counts)
    mean = sum(t * c for t, c in enumerate(counts, 1)) / 360
    means = [1 + (steps - 1) * (k / 12) ** 2 for k in range(13)]
    confidence = [[m, 0.974 - 0.86 * math.exp(-(m - 1) * 1.5), 48211.75 * m] for m in means]
    return {
        "data": "digits",
        "n": 360,
        "seed": 0,
        "timesteps": steps,
        "labels": "true",
        "ann_accuracy": 0.9777777777777777,
        "accuracy_by_step": accuracy,
        "spikes_per_sample_by_step": spikes,
        "synaptic_operations_by_step": operations,
        "multiply_accumulates_per_sample": 36864.0,
        "early_exit": {
            "policy": "confidence",
            "threshold": 0.8731234567,
            "divisor": 2.5,
            "accuracy": 0.9722222222222222,
            "accuracy_ci95": [0.9527777777777777, 0.9888888888888889],
            "mean_steps": mean,
            "mean_steps_computed": mean + 0.9,
            "p95_steps": float(min(7, steps)),
            "spikes_per_sample": 311.5 * mean,
            "synaptic_operations_per_sample": 48211.75 * mean,
            "smallest_fixed_steps_of_equal_accuracy": min(11, steps),
            "speedup_steps": 4.583333,
            "speedup_steps_ci95": [4.21, 4.97],
            "speedup_wall": 3.4142,
            "wall_seconds": 0.0213,
            "fixed_wall_seconds": 0.0727,
            "timing_n": 360,
        },
        "oracle": {"accuracy": 0.9861111111111112, "mean_steps": 1.71, "mean_steps_never_correct_charged_full": 2.13},
        "figures": {
            "exit_step_histogram": counts,
            "pareto": {
                "fixed": [[t, accuracy[t - 1], operations[t - 1]] for t in range(1, steps + 1)],
                "confidence": confidence,
                "oracle": [1.71, 0.9861111111111112],
            },
            "raster": {
                "layer": "features.0.conv",
                "units": 24,
                "steps": steps,
                "times": [[t for t in range(1, steps + 1) if (t * (1 + u % 9) + u) % 7 < u % 4] for u in range(24)],
            },
        },
    }


def _integer() -> dict[str, Any]:
    return {
        "bits": 8,
        "rounding": "nearest",
        "means_kept": True,
        "n": 162,
        "accuracy": 0.9691358024691358,
        "accuracy_ci95": [0.93, 0.987],
        "accuracy_change": -0.006172839506172839,
        "accuracy_change_ci95": [-0.0185, 0.0],
        "input": {"scale": 0.00392, "low": 0, "high": 255},
        "decay_error": 0.0001,
        "channels_with_coarser_weights": 3,
        "largest_state": 7992448.0,
    }


def _run(backend: str, mismatches: int) -> dict[str, Any]:
    first = {"layer": "features.0.conv", "step": 3, "sample": 1, "unit": 17} if mismatches else None
    row = {"evidence": "proxy", "scope": "term", "source": "Loihi 1's figure (Davies et al. 2018)"}
    layer = {"name": "features.0.conv", "neurons": 3422, "cores": 4, "neurons_per_core": 900, "in_axons": 812}
    return {
        "backend": backend,
        "data": "digits",
        "n": 360,
        "accuracy": 0.9722222222222222,
        "mean_steps": 2.14,
        "seconds": 8.43,
        "agreement": {
            "with": "reference",
            "spikes_compared": 4894400,
            "mismatches": mismatches,
            "first_divergence": first,
        },
        "energy": {
            "chip": "loihi2",
            "total": None,
            "unit": "pJ a sample",
            "terms": [
                {"term": "accumulate", "count_per_sample": 75675.2, "picojoules_per_sample": 1785939.4, **row},
                {"term": "multiply_accumulate", "count_per_sample": 7744.0, "picojoules_per_sample": None},
            ],
        },
        "mapping": {
            "chip": "loihi2",
            "approximate": True,
            "cores": 4,
            "cores_of_the_chip": 120,
            "fits": False,
            "violations": ["features.0.conv: no maximum of currents on this chip; use average pooling"],
            "layers": [{**layer, "out_axons": 1200, "synapse_bits": 910000}],
        },
    }


@pytest.fixture
def make_report() -> Callable[..., dict[str, Any]]:
    """Return a function that makes a report: ``make(steps=32, layers=6, evaluate=True)``."""

    def make(steps: int = 32, layers: int = 6, *, evaluate: bool = True) -> dict[str, Any]:
        report: dict[str, Any] = {"spikeport": "0.1.0", "convert": _convert(steps, layers)}
        if evaluate:
            report["convert"]["integer"] = _integer()
            report["evaluate"] = _evaluate(steps)
            report["run"] = {"torch": _run("torch", 0), "lava": _run("lava", 2)}
        return report

    return make


@pytest.fixture
def make_finetuned(make_report: Callable[..., dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Return a function that makes the report of a network that was trained in levels."""

    def make() -> dict[str, Any]:
        report = make_report(4)
        report["convert"]["finetune"] = {
            "levels": 4,
            "import_error": 2.1e-07,
            "n_train": 4004,
            "best_epoch": 2,
            "validation_accuracy": 0.9587,
            "epochs": [
                {
                    "epoch": at,
                    "train_loss": 1 / at,
                    "train_accuracy": 0.9 + at / 50,
                    "validation_accuracy": 0.93 + at / 100,
                }
                for at in (1, 2, 3)
            ],
            "n": 321,
            "source_accuracy": 0.9612,
            "source_accuracy_ci95": [0.934, 0.978],
            "quantised_accuracy": 0.9568,
            "quantised_difference": [-0.0044, -0.0112, 0.0021],
        }
        return report

    return make


@pytest.fixture
def make_searched(make_report: Callable[..., dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """Return a function that makes the report of a search."""

    def make() -> dict[str, Any]:
        ways = (
            ("binary", 2, 0.8123, 20110.5),
            ("burst:4", 3, 0.9511, 41200.25),
            ("signed", 5, 0.9707, 88123.0),
            ("differential", 4, 0.9756, 1204110.75),
        )
        keys = ("code", "steps", "accuracy", "operations")
        method = "mean square + step biases, calibrated for 8 steps"
        front = [{**dict(zip(keys, way, strict=True)), "method": method} for way in ways]
        report = make_report()
        report["convert"]["search"] = {
            "points": 0.5,
            "codes": ["binary", "signed", "burst:4", "differential", "graded:2"],
            "windows": [4, 8, 16, 32],
            "n": 216,
            "ann_accuracy": 0.9756,
            "reached": True,
            "chosen": dict(front[2]),
            "front": front,
            "refused": {"graded:2": "cannot convert 1 operator: norm (layer_norm)"},
        }
        return report

    return make
