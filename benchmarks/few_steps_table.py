"""Write the tables of few steps from what the scripts kept: python benchmarks/few_steps_table.py.

Reads what qcfs_table.py, vit_table.py, exit_rules.py and guarantees.py left in results/; what has not been measured has
no row.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qcfs_table import line as qcfs_line
from tables import chosen, put_table
from vit_peer import table as peer_table

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
RULES = ("confidence", "margin", "entropy", "steps", "gap", "patience", "average", "gate", "auto")

PEER = """\
The same transformer on {n:,} of these images ({ann:.2f} % as trained) beside SpikingJelly 2.0.0's approximation for
transformers (STA, its mode with spikes; events are values other than 0, a sample and window). Ours sends values of
fewer bits, STA fewer of them, and fewer bits in all (`benchmarks/vit_peer.py`):
"""


def read(name: str) -> Any:
    """What a script kept; None where it has not run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def trained() -> Iterator[str]:
    """Networks trained in levels, and the transformer."""
    rows = []
    for path in sorted(RESULTS.glob("qcfs-*.json")):
        result = json.loads(path.read_text(encoding="utf-8"))
        name = f"{path.stem.removeprefix('qcfs-')}, {result['levels']} levels"
        rows += [qcfs_line(name, result, row) for row in result["rows"]]
    vit = read("vit")
    if vit:
        held = vit["evaluate"]
        rows.append(qcfs_line("ViT on Fashion-MNIST, as trained", *_as_row(held)))
    if rows:
        yield "| network | spikes | n | ReLU, % | ANN, % | T = 1 | T = 2 | T = 4 | T = 8 | early exit of 8 |"
        yield "|---|---|---|---|---|---|---|---|---|---|"
        yield from rows


def _as_row(held: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The transformer in the form of the other rows; it has no ReLU version."""
    steps = {
        step: {"accuracy": held["accuracy_by_step"][int(step) - 1], "difference": difference}
        for step, difference in held["ann_difference_by_step"].items()
    }
    row = {"code": "differential", "steps": steps, "early_exit": held["early_exit"]}
    row["quantised_accuracy"] = held["ann_accuracy"]
    return {"n": held["n"], "relu_accuracy": held["ann_accuracy"]}, row


def rules() -> Iterator[str]:
    """Exit rules, all on the same outputs."""
    found = read("exit_rules")
    if found:
        heads = ["mean steps (change of accuracy in points)", "n", "T", "saved", "instead of", *RULES]
        yield f"| {' | '.join(heads)} |"
        yield "|---|" + "---|" * (len(heads) - 1)
        for row in found.values():
            cells = [row["title"], f"{row['n']:,}", str(row["steps"]), *_worth(chosen(row["rules"]))]
            yield f"| {' | '.join([*cells, *(_rule(row['rules'].get(name)) for name in RULES)])} |"
        saved = [chosen(row["rules"])["steps_saved"][0] for row in found.values()]
        average = 100 * sum(saved) / len(saved)
        yield ""
        yield f'"saved": share of the network\'s own T, {average:.0f} % on average over {len(saved)} networks;'
        yield '"instead of": the smallest fixed number of steps with the same accuracy, over the mean steps; with auto,'
        yield "where it was tried, else with confidence."


def _worth(held: dict[str, Any]) -> list[str]:
    """Latency saved, and the speed-up against the smallest fixed window of equal accuracy."""
    value, low, high = held["speedup_steps"]
    fixed = held["fixed_steps_of_equal_accuracy"]
    return [f"{100 * held['steps_saved'][0]:.0f} %", f"{fixed}: {value:.2f}× ({low:.2f} to {high:.2f})"]


def _rule(held: dict[str, Any] | None) -> str:
    if held is None:
        return "–"
    value, low, high = (100 * number for number in held["change"])
    return f"{held['mean_steps']:.2f} ({value:+.2f}, {low:+.2f} to {high:+.2f})"


def promises() -> Iterator[str]:
    """How often the promises were broken."""
    held = read("guarantees")
    if held:
        sure, plain, sets = held["guaranteed"], held["uncorrected"], held["sets"]
        yield (
            f"Guarantees over {held['splits']:,} random splits of {held['samples']:,} outputs ({held['row']}, "
            f"{held['calibration']:,} calibrate):\n`loss:{held['epsilon']}@{1 - held['delta']:.2f}` was broken in "
            f"{100 * sure['broken']:.1f} % of them ({100 * held['delta']:.0f} % allowed) at {sure['mean_steps']:.2f} "
            f"steps, a rule without correction in\n{100 * plain['broken']:.1f} %; the sets of "
            f"`coverage:{held['coverage']}` held the class in {100 * sets['covered']:.1f} % at "
            f"{sets['mean_steps']:.2f} steps."
        )


def transformers() -> Iterator[str]:
    """The vision transformer beside that of another package."""
    path = RESULTS / "vit_peer.json"
    if path.exists():
        found = json.loads(path.read_text())
        yield PEER.format(n=found["ours"]["n"], ann=100 * found["ours"]["ann"])
        yield from peer_table(found).splitlines()


def main() -> None:
    """Put the tables between the marks."""
    parts = ["\n".join(part()) for part in (trained, transformers, rules, promises)]
    put_table("few", "\n\n".join(part for part in parts if part))


if __name__ == "__main__":
    main()
