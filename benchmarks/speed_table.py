"""Write the table of speeds from what the timing scripts kept: python benchmarks/speed_table.py.

Reads results/lif_layer.json, open_neuromorphic.json and integer_engine.json; each row is a median of one interleaved
run, as a multiple of ours.  What a script has not measured has no row.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tables import put_table

HERE = Path(__file__).resolve().parent
PEERS = ("snntorch", "spikingjelly", "norse", "sinabs")
WANTED = {  # what the project wants to be, in multiples of our time
    "T=16": (5, 4.5, 5, 10),
    "T=500": (10, 8, 9, 100),
    "linear 1": (5, 2.7, None, None),
    "linear 2": (6, 3.5, None, None),
}
HEAD = (
    "| forward and backward | threads | ms | snnTorch 1.0.0 | SpikingJelly 2.0.0 | norse 1.1.0 | sinabs 3.1.3 "
    "| floor |\n"
    "|---|---|---|---|---|---|---|---|"
)
ENGINE_HEAD = (
    "| integer engine, T = 32, batch 16 | threads | ms | plain PyTorch loop | SpikingJelly 2.0.0 | our float engine "
    "| bare int8 synapses |\n|---|---|---|---|---|---|---|"
)


def read(name: str) -> Any:
    """What a script kept; None where it has not run."""
    path = HERE / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def times(rows: dict[str, Any], start: str) -> float | None:
    """The median of the contestant whose name starts so, in multiples of ours."""
    ours = rows["spikeport" if "spikeport" in rows else "integer engine"]["wall_ms"]
    found = [row["wall_ms"] / ours for name, row in rows.items() if name.startswith(start)]
    return found[0] if found else None


def cells(rows: dict[str, Any], names: tuple[str, ...], wanted: tuple[float | None, ...]) -> str:
    """The multiples, each with what was wanted where it is less."""
    shown = []
    for name, least in zip(names, wanted, strict=True):
        value = times(rows, name)
        missed = value is not None and least is not None and value < least
        shown.append("–" if value is None else f"{value:.2f}×" + (f" ({least:g} wanted)" if missed else ""))
    return " | ".join(shown)


def layer_lines() -> Iterator[str]:
    """The layer alone, and with a linear layer before it."""
    none = (None,) * len(PEERS)
    for found in (read("lif_layer") or {"layers": []})["layers"]:
        rows, (steps, batch, features) = found["rows"], found["size"]
        title = f"leaky layer alone, T = {steps}, {batch} × {features:,}"
        floor = f"streams {times(rows, 'streams'):.2f}×"
        yield line(title, found["threads"], rows, cells(rows, PEERS, WANTED.get(found["shape"], none)), floor)
    for found in read("open_neuromorphic") or []:
        rows = found["rows"]
        floor = f"linear layer {times(rows, 'linear'):.2f}×"
        wanted = WANTED[f"linear {found['threads']}"]
        yield line("linear 512 and leaky layer, T = 500, batch 16", found["threads"], rows,
                   cells(rows, PEERS, wanted), floor)  # fmt: skip


def line(title: str, threads: int, rows: dict[str, Any], shown: str, floor: str) -> str:
    """A row for a layer."""
    return f"| {title} | {threads} | {rows['spikeport']['wall_ms']:.1f} | {shown} | {floor} |"


def engine_lines() -> Iterator[str]:
    """The integer engine."""
    found = read("integer_engine") or {"networks": []}
    for network in found["networks"]:
        rows = network["rows"]
        least = (7, None, 2.5, None) if "pooled" in network["network"] else (4.5, None, 2.5, None)
        shown = cells(rows, ("plain PyTorch", "spikingjelly", "our float", "bare int8"), least)
        yield f"| {network['network']} | {network['threads']} | {rows['integer engine']['wall_ms']:.0f} | {shown} |"


def main() -> None:
    """Put the tables between the marks."""
    first = (read("lif_layer") or {}).get("first_call_cpu_s")
    said = (
        f"\nFirst call of a process, CPU seconds: {first['cold']:.1f} with an empty cache, {first['cached']:.1f} after."
        if first
        else ""
    )
    put_table("speed", "\n".join([HEAD, *layer_lines(), said, "", ENGINE_HEAD, *engine_lines()]))


if __name__ == "__main__":
    main()
