"""What was done to get there: the training in levels, and the search for the cheapest way to reach a target."""

from .charts import Point, searched, trained
from .markup import count, interval, name, num, pairs, percent_fine, plain, steps, table
from .pictures import figure
from .reading import Part

__all__ = ["finetuning", "search"]

_KINDS = ("binary", "signed", "burst", "differential")  # no word from outside may stand in a picture


def finetuning(convert: Part) -> str:
    """Return how the network was trained in levels, and its accuracy before, after and with spikes; or nothing."""
    about = convert["finetune"]
    if not about:
        return ""
    n = num(about["n"], steps)
    last = convert["accuracy_by_step"][max(0, len(convert["accuracy_by_step"].each()) - 1)]
    spread = convert["accuracy_ci95_by_step"][max(0, len(convert["accuracy_ci95_by_step"].each()) - 1)]
    rows = [
        (
            "ReLU, before training",
            num(about["source_accuracy"], percent_fine),
            interval(about["source_accuracy_ci95"], percent_fine),
        ),
        (
            f"In {num(about['levels'], steps)} levels, after training",
            num(about["quantised_accuracy"], percent_fine),
            _difference(about["quantised_difference"]),
        ),
        (
            f"Spiking, {num(convert['timesteps'], steps)} time steps",
            num(last, percent_fine),
            interval(spread, percent_fine),
        ),
    ]
    measured = table(
        "On samples that trained and chose nothing", ("Network", "Accuracy", "Interval, or change by training"), rows
    )
    how = pairs(
        [
            ("Samples that trained", num(about["n_train"], steps)),
            ("Samples that measured", n),
            ("Epochs", f"{len(about['epochs'].each())}, the best is number {num(about['best_epoch'], steps)}"),
            ("Accuracy that chose the epoch", num(about["validation_accuracy"], percent_fine)),
            ("Error of the import", num(about["import_error"], plain)),
            *_spikes(about["spikes"]),
        ]
    )
    return _beside(_curve(about) if about["epochs"].each() else "", how, measured)


def _spikes(about: Part) -> list[tuple[str, str]]:
    """How the spikes themselves were trained, where they were."""
    if not about:
        return []
    before, after = (num(about["validation_accuracy"][place], percent_fine) for place in range(2))
    kept = "; the network was kept as it was" if about["kept"].value is False else ""
    return [
        ("Epochs with spikes", f"{num(about['epochs'], steps)}, the best is number {num(about['best_epoch'], steps)}"),
        ("Accuracy that chose it, before and after", f"{before}, {after}{kept}"),
    ]


def _beside(picture: str, said: str, listed: str) -> str:
    """The picture with what is said about it, and the table below."""
    return f'<div class="grid">{picture}<div class="card">{said}</div></div><div class="card">{listed}</div>'


def _difference(part: Part) -> str:
    """The paired difference with its interval."""
    if not part:
        return ""
    value, low, high = (num(part[place], percent_fine) for place in range(3))
    return f'{value}, <span class="ci"><abbr title="95 % interval">95 % CI</abbr> {low} – {high}</span>'


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"


def _curve(about: Part) -> str:
    rows = about["epochs"].each()
    epochs, training, held = (
        Part([row[key].number() for row in rows], key).numbers()
        for key in ("epoch", "train_accuracy", "validation_accuracy")
    )
    return figure(
        "training",
        "Training in levels",
        "Accuracy after every epoch; what is measured below was in neither.",
        trained(epochs, training, held, about["best_epoch"].number()),
        f"Accuracy of training and validation over {len(rows)} epochs.",
    )


def search(convert: Part) -> str:
    """Return the front of the search: method, code and steps with accuracy and operations; or nothing."""
    about = convert["search"]
    if not about:
        return ""
    rows = [_way(way, about) for way in about["front"].each()]
    target = f"at most {num(about['points'], plain)} percentage points below {num(about['ann_accuracy'], percent_fine)}"
    listed = table(
        "Ways that no other beats in both accuracy and operations, on the samples that chose",
        ("Spikes", "Method", "Time steps", "Accuracy", "Change", "Operations", ""),
        rows,
    )
    said = pairs(
        [
            ("Target", target),
            ("Reached", "yes" if about["reached"].value is True else "no; the most accurate way was taken"),
            ("Samples that chose", num(about["n"], steps)),
            ("Tried", ", ".join(name(code.text()) for code in about["codes"].each())),
            *((f"Not {code}", name(why.text())) for code, why in about["refused"].named()),
        ]
    )
    return _beside(_front(about) if rows else "", said, listed)


def _way(way: Part, about: Part) -> tuple[str, ...]:
    reached, wanted = way["accuracy"].number(), about["ann_accuracy"].number()
    change = "–" if reached is None or wanted is None else f"{_points(reached - wanted)} points"
    return (
        name(way["code"].text()),
        name(way["method"].text()),
        num(way["steps"], steps),
        num(way["accuracy"], percent_fine),
        change,
        num(way["operations"], count),
        "<b>chosen</b>" if _is_chosen(way, about) else "",
    )


def _is_chosen(way: Part, about: Part) -> bool:
    return bool(way) and way.value == about["chosen"].value


def _front(about: Part) -> str:
    points: dict[str, list[Point]] = {}
    for way in about["front"].each():
        kind = way["code"].text().partition(":")[0]
        points.setdefault(kind if kind in _KINDS else "other", []).append(_point(way))
    ann, lost = about["ann_accuracy"].number(), about["points"].number()
    wanted = None if ann is None or lost is None else ann - lost / 100
    return figure(
        "search",
        "The front of the search",
        "Further left is less work, accumulates and what stays analog together; on the samples that chose.",
        searched(list(points.items()), ann, wanted, _point(about["chosen"]) if about["chosen"] else None),
        f"Accuracy against operations of {len(about['front'].each())} ways to run the network.",
    )


def _point(way: Part) -> Point:
    operations, accuracy = way["operations"].number(), way["accuracy"].number()
    return (
        float("nan") if operations is None else float(operations),
        float("nan") if accuracy is None else float(accuracy),
    )
