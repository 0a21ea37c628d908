"""Early exit under attack: what inputs made to break it do, and what each defence changes."""

from .markup import interval, name, num, pairs, percent, percent_fine, steps, table
from .reading import Part

__all__ = ["robustness"]

_HEAD = (
    "Input",
    "Defence",
    "Mean steps",
    "Accuracy",
    "Of a full run",
    "Answer kept",
    "Wrong only early",
    "Alarm after",
)


def robustness(said: Part) -> str:
    """Return the table of attacks and how they were made; nothing where none was run."""
    if not said["rows"].each():
        return ""
    rows = [_row(row, said["alarm"]) for row in said["rows"].each()]
    caption = (
        f"Changes of at most {num(said['epsilon'], percent)} of each channel's range; n = {num(said['n'], steps)}, "
        f"{num(said['iterations'], steps)} iterations, T = {num(said['timesteps'], steps)}"
    )
    made = pairs(
        [
            ("Noise", "of as many random changes as an attack has iterates, the one that delays most"),
            ("Delay", "made to exit late with the same answer, by the gradient of the spiking network or of the ANN"),
            ("Early", "made to be wrong where it stops early and right at the end"),
            ("Attacked", "the deployed rule; cap and average are defences that the attack did not know"),
        ]
    )
    listed = table("Early exit under attack", _HEAD, rows)
    return f'<div class="card"><p>{caption}</p>{listed}</div><div class="card">{made}</div>'


def _row(row: Part, alarm: Part) -> tuple[str, ...]:
    plain = row["defence"].text() == "none"
    defence = (
        f"at most {num(row['cap'], steps)} steps" if row["defence"].text() == "cap" else name(row["defence"].text())
    )
    rang = alarm["rang_after"][row["input"].text()]
    return (
        name(row["input"].text()),
        defence,
        f"{num(row['mean_steps'], steps)} {interval(row['mean_steps_ci95'], steps)}",
        f"{num(row['accuracy'], percent_fine)} {interval(row['accuracy_ci95'], percent_fine)}",
        num(row["accuracy_full"], percent_fine),
        num(row["answer_kept"], percent_fine),
        num(row["wrong_only_early"], percent_fine),
        num(rang, steps) if plain and rang else "–",
    )
