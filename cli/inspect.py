"""``spikeport inspect``: what a network is made of, and whether all of it can be converted."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from . import options
from .output import finish, rows, table

__all__ = ["inspect"]


def inspect(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=f"A folder or network.safetensors that spikeport wrote; {options.MODEL_HELP}",
            show_default=False,
        ),
    ],
    input_shape: Annotated[
        str | None, typer.Option("--input-shape", metavar="C,H,W", help="The shape of one sample, for a factory.")
    ] = None,
    weights: options.Weights = None,
    allow_code: options.AllowCode = False,
    as_json: options.Json = False,
) -> None:
    """Show what MODEL is made of.

    Its operators, shapes and parameters, and everything in it that cannot be converted (then the exit code is 4).
    """
    from ..evaluation.inspect import describe

    features = None if input_shape is None else options.parse_shape(input_shape)
    found = describe(model, features=features, weights=weights, allow_code=allow_code)
    finish(found.facts, _tables(found.facts), as_json, found.problem)


def _tables(facts: Mapping[str, Any]) -> list[Any]:
    operators = ", ".join(f"{count} × {name}" for name, count in facts.get("operators", {}).items())
    source = facts.get("information", {}).get("source", {})
    summary = rows(
        facts["name"],
        [
            ("kind", facts["kind"]),
            ("source", source.get("name") if isinstance(source, Mapping) else None),
            ("input", _shape(facts.get("input_shape"))),
            ("output", _shape(facts.get("output_shape"))),
            ("parameters", f"{facts['parameters']:,}" if "parameters" in facts else None),
            ("operators", operators or None),
            ("can be converted to", ", ".join(f"{kind} spikes" for kind in facts.get("spikes", ())) or None),
            *(("note", text) for text in facts.get("notes", ())),
            *(("cannot be converted", problem) for problem in facts["unsupported"]),
        ],
    )
    if not facts.get("nodes"):
        return [summary]
    nodes = table(
        "Nodes",
        ("name", "operator", "shape", "parameters"),
        [(n["name"], n["operator"], _shape(n["shape"]), f"{n['parameters']:,}") for n in facts["nodes"]],
    )
    return [summary, nodes]


def _shape(shape: list[int] | None) -> str | None:
    return None if shape is None else " × ".join(map(str, shape))
