"""What a converted neuron may send in one step."""

from dataclasses import dataclass

from .._check import RangeError, SpikeportError

__all__ = ["KINDS", "SpikeCode", "parse_code"]

KINDS = ("binary", "signed", "burst", "differential")
_LEVELS = {"binary": (1, 1, 1), "signed": (1, 1, 1), "burst": (4, 2, 1 << 16), "differential": (8, 1, 16)}


@dataclass(frozen=True)
class SpikeCode:
    """A kind of spikes.

    binary: 0 or 1.  signed: also -1, which takes one back.  burst: 0 to ``levels`` spikes of theta / levels.
    differential: changes of a decoded value, in ``levels`` sizes, each half the one before, of either sign.
    """

    kind: str
    levels: int

    @property
    def decodes(self) -> bool:
        """Whether what a neuron gives is a value at each step, so that any function may follow it."""
        return self.kind == "differential"

    def grid(self, timesteps: int) -> int:
        """How many values above 0, at equal distances up to theta, the code can say within ``timesteps`` steps.

        A differential spike at step t says theta / (2^k t): its values are counted as if all were theta / 2^(levels-1).
        """
        return 2 ** (self.levels - 1) if self.decodes else self.levels * timesteps


def parse_code(text: str) -> SpikeCode:
    """Read ``binary``, ``signed``, ``burst[:levels]`` or ``differential[:levels]``.

    Raises SpikeportError for another name, RangeError for a number of levels that makes no sense.

    >>> parse_code("burst"), parse_code("differential:6").levels
    (SpikeCode(kind='burst', levels=4), 6)
    """
    kind, colon, given = text.partition(":")
    if kind not in KINDS:
        raise SpikeportError(f"there is no spike code {text!r} for conversion; choose {', '.join(KINDS)}")
    usual, low, high = _LEVELS[kind]
    if not colon:
        return SpikeCode(kind, usual)
    if not (given.isascii() and given.isdigit()) or not low <= int(given[:9]) <= high:
        wanted = f"{low} to {high}" if high > low else "no number"
        raise RangeError(f"{text!r} asks for {given!r} levels, but {kind} spikes take {wanted} after the colon")
    return SpikeCode(kind, int(given))
