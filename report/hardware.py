"""The integer network on its backends: agreement, energy by cited prices, and the cores it needs."""

from .analog import aihwkit, analog
from .markup import count, name, num, pairs, percent_fine, plain, points, span, steps, table
from .reading import Part

__all__ = ["hardware"]


def hardware(convert: Part, run: Part) -> str:
    """Return the panels of the integer network; nothing where there is none and none has run."""
    panels = [_integer(convert["integer"])] if convert["integer"] else []
    runs = [part for key, part in run.named() if not key.startswith(("analog", "aihwkit"))]
    chips = [analog(part) for key, part in run.named() if key.startswith("analog")]
    chips += [aihwkit(part) for key, part in run.named() if key == "aihwkit"]
    if runs:
        panels.append(_agreement(runs))
        panels += [_faults(part) for part in runs if part["faults"]]
        panels += [_energy(runs[-1]), _mapping(runs[-1]["mapping"])]
    return "".join(panels + chips)


def _integer(said: Part) -> str:
    if said["refused"]:
        return f'<div class="card"><h3>No integer network</h3><p>{name(said["refused"].text())}</p></div>'
    change = f"{num(said['accuracy_change'], points)}, 95\u202f% CI {span(said['accuracy_change_ci95'], points)}"
    rows = [
        ("Weights", f"{num(said['bits'], steps)} bits{_rounding(said)}"),
        ("Accuracy", f"{num(said['accuracy'], percent_fine)} (n = {num(said['n'], steps)}, the exit part)"),
        ("Change against the float network", change),
        ("Largest state", f"{num(said['largest_state'], count)} of 8.39\u202fM (24 bits), proven"),
        ("Channels with coarser weights", num(said["channels_with_coarser_weights"], steps)),
        ("Largest error of a decay", num(said["decay_error"], plain)),
    ]
    return f'<div class="card"><h3>Integer network</h3>{pairs(rows)}</div>'


def _rounding(said: Part) -> str:
    if said["rounding"].text() == "fitted":
        return ", rounded to fit what arrives"
    return "; biases keep the mean currents" if said["means_kept"].value is True else ""


def _agreement(runs: list[Part]) -> str:
    head = ("Backend", "Accuracy", "n", "Mean steps", "Values compared", "Differ", "First difference", "Seconds")
    rows = [
        (
            name(_ran_on(part)),
            num(part["accuracy"], percent_fine),
            num(part["n"], steps),
            num(part["mean_steps"], steps),
            num(part["agreement"]["spikes_compared"], count),
            num(part["agreement"]["mismatches"], steps),
            _divergence(part["agreement"]),
            num(part["seconds"], plain),
        )
        for part in runs
    ]
    return table(
        "Runs of the integer network; where --compare asked for it, spike for spike against the NumPy reference",
        head,
        rows,
    )


def _ran_on(run: Part) -> str:
    return run["backend"].text() + (" with faults" if run["faults"] else "")


def _faults(run: Part) -> str:
    """What was hit in a run with faults."""
    said = run["faults"]
    rows = [(key, num(rate, plain) if key != "layers" else ", ".join(name(layer.text()) for layer in rate.each()))
            for key, rate in said["rates"].named()]  # fmt: skip
    rows += [(f"bits of {key} that changed", f"{num(found, count)} of {num(said['bits'][key], count)}")
             for key, found in said["changed"].named()]  # fmt: skip
    rows.append(("Seed", num(said["seed"], steps)))
    return f'<div class="card"><h3>Faults on {name(run["backend"].text())}</h3>{pairs(rows)}</div>'


def _divergence(agreement: Part) -> str:
    first = agreement["first_divergence"]
    if not first:
        return "none" if agreement else "–"
    return f"{name(first['layer'].text())}, step index {num(first['step'], steps)}, unit {num(first['unit'], steps)}"


def _energy(run: Part) -> str:
    """Terms in picojoules a sample; no total where a term has no price."""
    bill = run["energy"]
    rows = [
        (
            name(term["term"].text().replace("_", " ")),
            num(term["count_per_sample"], count),
            num(term["picojoules_per_sample"], count),
            name(term["evidence"].text() or "no published price"),
            name(term["source"].text()),
        )
        for term in bill["terms"].each()
    ]
    total = num(bill["total"], count)
    rows.append(("total", "", total if bill["total"] else f"{total} none: a term has no price", "", ""))
    title = f"Energy a sample on {bill['chip'].text()}, in picojoules, run on {_ran_on(run)}"
    return table(title, ("Term", "Number", "pJ", "Evidence", "Source"), rows)


def _mapping(mapping: Part) -> str:
    rows = [
        (
            name(layer["name"].text()),
            num(layer["neurons"], steps),
            num(layer["cores"], steps),
            num(layer["neurons_per_core"], steps),
            num(layer["in_axons"], count),
            num(layer["out_axons"], count),
            num(layer["synapse_bits"], count),
        )
        for layer in mapping["layers"].each()
    ]
    head = ("Layer", "Neurons", "Cores", "Neurons a core", "In-axons", "Out-axons", "Synapse bits")
    chip = mapping["chip"].text() + (" (limits partly unpublished)" if mapping["approximate"].value else "")
    title = f"Cores on {chip}; axons and bits are those of the fullest core of a layer"
    said = "".join(f"<li>{name(part.text())}</li>" for part in mapping["violations"].each())
    cores = f"{num(mapping['cores'], steps)} cores of {num(mapping['cores_of_the_chip'], steps)}"
    fits = "the network fits" if mapping["fits"].value else "the network does not fit as it is"
    return table(title, head, rows) + f"<p>{cores}; {fits}.</p>" + (f"<ul>{said}</ul>" if said else "")
