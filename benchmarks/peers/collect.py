"""Run SpikingJelly's recipes on the networks of the results table, and keep what came out in results/peers.json.

python benchmarks/prepare_data.py --out DATA
python benchmarks/peers/collect.py --data DATA [--networks NAME ...] [--limit N]

The network as it was published is tried first.  Where the peer refuses it, a version rewritten by hand (modules instead
of functions, fixed convolutions instead of slices) computes the same outputs and stands beside it.
"""

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any

from environment import default_folder, ensure

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results" / "peers.json"
LTB_BATCHES = 200  # of 100 images: what a person might wait for; fewer fail in silence

# name: (calibration, test, calibration samples, time steps, test samples, batches of threshold balancing)
NETWORKS: dict[str, tuple[str, str, int, int, int, int]] = {
    "digits": ("digits_calibration", "digits_evaluation", 1437, 8, 360, LTB_BATCHES),
    "mnist_cnn": ("mnist_train", "mnist_test", 2000, 32, 1000, LTB_BATCHES),
    "mnist8": ("mnist_train", "mnist_test", 2000, 32, 1000, LTB_BATCHES),
    "resnet20": ("cifar10_train", "cifar10_test", 1000, 64, 200, 30),
    "resnet20_rewritten": ("cifar10_train", "cifar10_test", 1000, 64, 200, 30),
    "dscnn": ("kws_calibration", "kws_evaluation", 150, 32, 350, 100),
    "dscnn_rewritten": ("kws_calibration", "kws_evaluation", 150, 32, 350, 100),
}


def measure(python: Path, data: Path, name: str, limit: int | None) -> dict[str, Any]:
    """What the recipes give on one network, run in the peer's own environment."""
    calibration, test, samples, timesteps, n, batches = NETWORKS[name]
    command = [
        str(python), str(HERE / "spikingjelly_recipes.py"), "--json", "--model", name,
        "--calibration", str(data / f"{calibration}.npz"), "--num-samples", str(samples),
        "--data", str(data / f"{test}.npz"), "--limit", str(min(n, limit or n)), "--timesteps", str(timesteps),
        "--ltb-batches", str(batches), "--threads", "2",
    ]  # fmt: skip
    if name == "digits":
        command += ["--weights", str(data / "digits.safetensors")]
    found: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    for outcome in found["recipes"].values():
        outcome.pop("delay_by_step", None)
    return found


def main() -> None:
    """Measure the networks that are asked for and keep those measured before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder that prepare_data.py wrote")
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--limit", type=int, help="test samples at most")
    parser.add_argument("--environment", type=Path, default=default_folder(), help="default: %(default)s")
    options = parser.parse_args()
    python = ensure(options.environment)
    RESULTS.parent.mkdir(exist_ok=True)
    for name in options.networks:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        kept[name] = measure(python, options.data.resolve(), name, options.limit)
        RESULTS.write_text(json.dumps({key: kept[key] for key in NETWORKS if key in kept}, indent=1) + "\n")
        print(name, "done", flush=True)


if __name__ == "__main__":
    main()
