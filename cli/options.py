"""The options that several commands share, and what their texts mean."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._check import RangeError

if TYPE_CHECKING:  # heavy parts are imported when a command runs, so that --help is quick
    from ..data import Dataset, Part, Preprocessing
    from ..evaluation.folder import Conversion
    from ..evaluation.guarantee import Guarantee
    from ..evaluation.policies import Policy
    from ..inference import FixedSteps

MAX_LOSS = 0.001  # of the accuracy
MOST_SEED = (1 << 32) - 1
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Trust MODEL and DATA that run code: .pt2 programs, Python functions.")
]
Attack = Annotated[
    float | None,
    typer.Option("--attack", metavar="E", help="Also attack early exit, within E (a share) of each channel's range."),
]
AttackSamples = Annotated[
    int | None,
    typer.Option("--attack-samples", min=1, metavar="N", help="With --attack: how many samples (default 200)."),
]
DropShared = Annotated[
    bool, typer.Option("--drop-shared", help="Leave out samples that are also in the calibration data.")
]
GuaranteeOption = Annotated[
    str | None,
    typer.Option(
        "--guarantee",
        metavar="coverage:C|loss:L@P",
        help="Exit with a guarantee: sets that hold the class (coverage:0.95), or a bounded loss (loss:0.005@0.95).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, everything else on stderr.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Take the first so many samples of DATA.")]
Layout = Annotated[
    str | None, typer.Option("--layout", metavar="NCHW|NHWC", help="Where DATA keeps its channels.", show_default=False)
]
Mean = Annotated[str | None, typer.Option("--mean", metavar="M[,M...]", help="Subtract from x · scale, per channel.")]
MinAccuracy = Annotated[
    float | None,
    typer.Option("--min-accuracy", min=0.0, max=1.0, help="End with exit code 3 if the accuracy is below this share."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace the folder if it is there (only one that spikeport wrote).")
]
OverwriteFile = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace FILE, whatever it holds; a folder only if it holds such programs."),
]
MaxLoss = Annotated[
    float | None,
    typer.Option(
        "--max-loss", min=0.0, max=1.0, help=f"Share of accuracy that early exit may cost (default {MAX_LOSS:g})."
    ),
]
MinSteps = Annotated[
    int, typer.Option("--min-steps", min=1, metavar="N", help="No sample stops before step N; not with fixed:T.")
]
PolicyOption = Annotated[
    str,
    typer.Option(
        "--policy",
        metavar="NAME",
        help="When a sample has decided: confidence, temperature, margin, entropy, energy, steps, gap, patience, "
        "average, gate, auto (the fastest safe one), or fixed:T.",
    ),
]
Scale = Annotated[
    str | None, typer.Option("--scale", metavar="S", help="The network sees (x · S − mean) / std; 1/255 is accepted.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, max=MOST_SEED, help="Every random choice follows from it.")]
Std = Annotated[str | None, typer.Option("--std", metavar="D[,D...]", help="Divide by, per channel.")]
Timing = Annotated[
    bool, typer.Option("--timing/--no-timing", help="Measure the wall time of early exit and of the fixed window.")
]
Weights = Annotated[
    Path | None,
    typer.Option("--weights", metavar="FILE", help="The safetensors file of a package.module:factory."),
]

DATA_HELP = "digits, file.npz[:xname,yname], or package.module:function with --allow-code."
MODEL_HELP = "model.onnx; program.pt2 with --allow-code; or package.module:factory with --weights and --allow-code."


def changed(
    base: "Preprocessing", scale: str | None, mean: str | None, std: str | None, layout: str | None
) -> "Preprocessing":
    """Return ``base`` with what was given put in its place; raises RangeError for what cannot be read."""
    from dataclasses import replace
    from typing import Any

    from ..data import parse_numbers, parse_scale

    given: dict[str, Any] = {}
    if scale is not None:
        given["scale"] = parse_scale(scale)
    if mean is not None:
        given["mean"] = parse_numbers(mean)
    if std is not None:
        given["std"] = parse_numbers(std)
    if layout is not None:
        given["layout"] = layout.upper()
    return replace(base, **given)


def load_for(
    spec: str,
    part: "Part",
    preprocessing: "Preprocessing",
    shapes: tuple[tuple[int, ...], int] | None,
    *,
    limit: int | None,
    allow_code: bool,
) -> "Dataset":
    """Load data for a network of the input shape and number of classes ``shapes``, or as they are where it is None."""
    from ..data import load_data

    features, classes = shapes or (None, None)
    return load_data(
        spec, preprocessing, part=part, features=features, classes=classes, limit=limit, allow_code=allow_code
    )


def samples_for(
    held: "Conversion", spec: str, preprocessing: "Preprocessing", *, limit: int | None, allow_code: bool
) -> "Dataset":
    """Load what a folder's network is evaluated on: samples, or recordings if it was trained on events."""
    from ..evaluation.recordings import framing_of, load_recorded

    framing = framing_of(held.spiking)
    if framing is not None:
        return load_recorded(held.spiking, framing, spec, limit=limit)
    return load_for(spec, "evaluation", preprocessing, held.shapes, limit=limit, allow_code=allow_code)


def loss_of(max_loss: float | None) -> float:
    """What --max-loss says, or its default."""
    return MAX_LOSS if max_loss is None else max_loss


def parse_policy(text: str, first: int = 1, max_loss: float | None = None) -> "FixedSteps | Policy":
    """Read ``fixed:T`` or the name of a policy; ``first`` is the first step at which it may stop.

    Raises RangeError for anything else, and where ``first`` or ``max_loss`` was said of a fixed run.
    """
    from ..evaluation.policies import POLICIES, Policy
    from ..inference import FixedSteps

    kind, _, steps = text.partition(":")
    if text in POLICIES:
        return Policy(text, first)
    if kind != "fixed" or not (steps.isascii() and steps.isdigit()) or not 1 <= int(steps[:9]) < 10**8:
        names = ", ".join(POLICIES)
        raise RangeError(f"the policy is {text!r}, but {names} or fixed:T (such as fixed:16) was wanted.")
    if first > 1:
        raise RangeError(f"--policy {text} and --min-steps {first} came together; a fixed run has no first step.")
    if max_loss is not None:
        raise RangeError(f"--policy {text} and --max-loss {max_loss:g} came together; a fixed run is not calibrated.")
    return FixedSteps(int(steps))


def parse_rule(
    policy: str, guarantee: str | None, first: int = 1, max_loss: float | None = None
) -> "FixedSteps | Guarantee | Policy":
    """Read --policy, --min-steps, --max-loss and --guarantee; the guarantee goes with none of the others."""
    chosen = parse_policy(policy, first, max_loss)
    if guarantee is None:
        return chosen
    given = {f"--policy {policy}": policy != "confidence", f"--min-steps {first}": first > 1}
    given[f"--max-loss {max_loss}"] = max_loss is not None
    if any(given.values()):
        said = ", ".join(option for option, came in given.items() if came)
        raise RangeError(f"{said} and --guarantee {guarantee} came together; give one of them.")
    from ..evaluation.guarantee import parse_guarantee

    return parse_guarantee(guarantee)


def parse_shape(text: str) -> tuple[int, ...]:
    """Read a shape such as ``1,28,28``; raises RangeError for anything else."""
    sizes = text.split(",")
    if not all(size.isascii() and size.isdigit() and 0 < int(size[:10]) < 1 << 28 for size in sizes):
        raise RangeError(f"{text!r} is no shape; give the axes of one sample, such as 1,28,28.")
    return tuple(map(int, sizes))
