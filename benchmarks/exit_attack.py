"""What early exit is worth on inputs made to break it, on networks that conversion_table.py kept.

python benchmarks/conversion_table.py --data DATA --keep DIR
python benchmarks/exit_attack.py --data DATA --keep DIR [--rows NAME ...] [--epsilon 0.02 0.05] [--samples 200]

Per network and size: inputs as they are, the best of random noise, exits delayed by the network's own gradient and by
the analog network's (transfer), and inputs made to be wrong only early; each without defence, with a cap on the steps,
and with averaged confidence, all calibrated on held-out samples.  Kept in benchmarks/results/exit_attack.json, from
which the table in docs/results.md is written (``--rows`` without a name only writes it).
"""

import argparse
import json
from pathlib import Path
from typing import Any

from conversion_table import RESULTS, ROWS
from integer_accuracy import samples
from tables import put_table

from spikeport.evaluation.folder import read_folder
from spikeport.evaluation.policies import Policy
from spikeport.evaluation.robustness import measure_robustness

FILE = RESULTS / "exit_attack.json"


def measured(name: str, epsilon: float, options: argparse.Namespace) -> dict[str, Any]:
    """One network under attacks of one size."""
    held = read_folder(options.keep / name)
    test = samples(ROWS[name], "data", options.data, held, 2000)
    rule = Policy(options.policy).rule(held.exit, max_loss=options.max_loss)
    said = {"epsilon": epsilon, "n": options.samples, "iterations": options.iterations, "max_loss": options.max_loss}
    result = measure_robustness(held.spiking, held.analog, held.exit, test, rule, **said)
    return {"title": ROWS[name].title, "policy": options.policy, "rule": str(rule), **result}


def lines(name: str, result: dict[str, Any]) -> list[str]:
    """What a person wants to see of it."""
    rang = result["alarm"].get("rang_after", {})
    return [
        f"{name:14} {result['epsilon']:.3f} {row['input']:18} {row['defence']:8} {row['mean_steps']:6.2f} steps "
        f"({row['mean_steps_ci95'][0]:.2f} to {row['mean_steps_ci95'][1]:.2f}), accuracy {100 * row['accuracy']:.1f} "
        f"(full {100 * row['accuracy_full']:.1f}), wrong only early {100 * row['wrong_only_early']:.1f}, answer kept "
        f"{100 * row['answer_kept']:.1f}, alarm {rang.get(row['input'])}"
        for row in result["rows"]
    ]


def table(found: dict[str, Any]) -> str:
    """A row for each network, size and input: with no defence, a cap, and averaged confidence."""
    defences = ("none", "cap", "average")
    heads = [
        "network",
        "input",
        "n",
        "mean steps: no defence",
        "cap",
        "averaged",
        "answered wrong only early, %: no defence",
    ]
    lines = [f"| {' | '.join([*heads, 'cap', 'averaged', 'alarm after'])} |", "|---|" + "---|" * (len(heads) + 2)]
    clean = set()
    for result in found.values():
        rang = result["alarm"].get("rang_after", {})
        inputs = dict.fromkeys(row["input"] for row in result["rows"])
        for name in inputs:
            rows = {row["defence"]: row for row in result["rows"] if row["input"] == name}
            if name == "clean" and result["title"] in clean:
                continue
            clean.add(result["title"])
            size = "" if name == "clean" else f", {result['epsilon']:g}"
            cells = [result["title"], f"{name}{size}", str(result["n"])]
            cells += [f"{rows[each]['mean_steps']:.2f}" for each in defences]
            cells += [f"{100 * rows[each]['wrong_only_early']:.1f}" for each in defences]
            lines.append(f"| {' | '.join([*cells, str(rang.get(name) or '–')])} |")
    return "\n".join(lines)


def main() -> None:
    """Attack the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=["digits", "kws", "mnist8"])
    parser.add_argument("--epsilon", nargs="*", type=float, default=[0.02, 0.05])
    parser.add_argument("--policy", default="confidence")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--max-loss", type=float, default=0.01)
    options = parser.parse_args()
    found: dict[str, Any] = json.loads(FILE.read_text()) if FILE.exists() else {}
    for name in options.rows:
        for epsilon in options.epsilon:
            found[f"{name}@{epsilon:g}"] = result = measured(name, epsilon, options)
            FILE.write_text(json.dumps(found, indent=1) + "\n")
            print("\n".join(lines(name, result)), flush=True)
    put_table("attack", table(found))


if __name__ == "__main__":
    main()
