"""The small vision transformer in spikes, ours beside SpikingJelly's spatio-temporal approximation (STA).

python benchmarks/vit_table.py --data DIR --epochs 6 --keep FOLDER
python benchmarks/vit_peer.py --data DIR --weights FOLDER/vit_6_0.safetensors [--limit 1000] [--steps 2 4 8 32]

Both are calibrated on training images that trained nothing (ours on 4,000, theirs on 1,000: it keeps a running mean).
Theirs is converted anew for each window, as its thresholds depend on it; ours is converted once and read step by step.
"events" are the values other than 0 that are sent, a sample and window, and "bits" what such a value needs.  The two do
not encode the same places: theirs encodes what norms, GELUs and attention give, ours whatever an operator reads.
benchmarks/results/vit_peer.json keeps all; the table is printed.
"""

import argparse
import json
import os
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from vit_table import measure

HERE = Path(__file__).resolve().parent
FILE = HERE / "results" / "vit_peer.json"


def theirs(options: Namespace) -> dict[str, Any]:
    """What SpikingJelly's environment finds."""
    sys.path.insert(0, str(HERE / "peers"))
    from environment import default_folder, ensure

    python = ensure(default_folder("layers"), "layers")
    data = options.data / "fashion_mnist.npz"
    command = [str(python), str(HERE / "peers" / "spikingjelly_sta.py"), "--weights", str(options.weights)]
    command += ["--data", str(data), "--limit", str(options.limit), "--steps", *map(str, options.steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def ours(options: Namespace) -> dict[str, Any]:
    """Ours, by step."""
    epochs, seed = options.weights.stem.split("_")[1:]
    asked = Namespace(
        data=options.data, keep=options.weights.parent, epochs=int(epochs), seed=int(seed), limit=options.limit,
        method="percentile", spikes="differential", steps=max(options.steps),
    )  # fmt: skip
    found = measure(options.data, asked)["evaluate"]
    rows = {}
    for steps in options.steps:
        events = found["spikes_per_sample_by_step"][steps - 1]
        bits = found["payload_bits_per_sample_by_step"][steps - 1] / events
        rows[str(steps)] = {"accuracy": found["accuracy_by_step"][steps - 1], "events": events, "bits": bits}
    return {"ann": found["ann_accuracy"], "n": found["n"], **rows}


def table(found: dict[str, Any]) -> str:
    """A row for each window."""
    lines = [
        "| T | ours, % | events | bits | SpikingJelly's STA, % | events | bits |",
        "|---|---|---|---|---|---|---|",
    ]
    for steps, mine in found["ours"].items():
        if steps in found["theirs"] and isinstance(mine, dict):
            peer = found["theirs"][steps]
            lines.append(
                f"| {steps} | {100 * mine['accuracy']:.2f} | {mine['events']:,.0f} | {mine['bits']:.0f} "
                f"| {100 * peer['accuracy_by_step'][-1]:.2f} | {peer['events']:,.0f} | {peer['bits']} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SPIKEPORT_DATA", ".")))
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=1000)
    parser.add_argument("--steps", type=int, nargs="+", default=[2, 4, 8, 32])
    options = parser.parse_args()
    found = {"ours": ours(options), "theirs": theirs(options)}
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    print(f"n = {found['ours']['n']}, the transformer itself {100 * found['ours']['ann']:.2f} %\n\n{table(found)}")


if __name__ == "__main__":
    main()
