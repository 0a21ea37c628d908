"""Random weights that are conductances: cells of a resistive array as they came out of forming, never programmed."""

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from .._check import RangeError, ShapeError, require_in_range

__all__ = ["FixedLinear", "ResistiveDevice", "ResistiveLinear"]

LAWS = ("lognormal", "normal")


@dataclass(frozen=True)
class ResistiveDevice:
    """What a cell's conductance is after one forming pulse, in microsiemens.

    G = off_us with chance 1 − formed, else drawn from a law of mean on_us and standard deviation spread · on_us, at
    least off_us;  G = on_us for the share ``stuck_on`` of cells and off_us for ``stuck_off``.
    law: "lognormal" or "normal".  read_noise: standard deviation of one read of a cell, as a share of its conductance.
    Raises RangeError for values that make no sense, and where all cells would be alike, so that no weight is random.

    off_us is the pristine state of about 10 MΩ, and formed cells lie below 20 kΩ, of the tantalum oxide arrays in Wang
    et al., Echo state graph neural networks with analogue random resistive memory arrays, Nature Machine Intelligence
    2023, extended figure 1.  Mean and spread of the formed state and the read noise are assumptions: replace them with
    those of your array.

    >>> ResistiveDevice(formed=0.5, spread=0.0).moments_us()
    (50.05, 49.95)
    """

    formed: float = 0.5
    on_us: float = 100.0
    spread: float = 0.3
    off_us: float = 0.1
    law: str = "lognormal"
    stuck_on: float = 0.0
    stuck_off: float = 0.0
    read_noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("formed", "stuck_on", "stuck_off"):
            require_in_range(name, getattr(self, name), 0.0, 1.0)
        require_in_range("stuck_on + stuck_off", self.stuck_on + self.stuck_off, 0.0, 1.0)
        require_in_range("off_us", self.off_us, 0.0, 1e6, remedy="It is a conductance in microsiemens.")
        require_in_range("on_us", self.on_us, max(self.off_us, 1e-9), 1e6, remedy="It is at least off_us.")
        require_in_range("spread", self.spread, 0.0, 2.0, remedy="It is a share of on_us.")
        require_in_range("read_noise", self.read_noise, 0.0, 10.0, remedy="It is a share of the conductance.")
        if self.law not in LAWS:
            raise RangeError(f"law is {self.law!r}, but it must be one of {', '.join(map(repr, LAWS))}.")
        if self.moments_us()[1] <= 1e-9 * self.on_us:
            raise RangeError(
                f"with formed = {self.formed} and spread = {self.spread} all cells are alike, so no weight is random; "
                "form a share of the cells, or give them a spread."
            )

    def moments_us(self) -> tuple[float, float]:
        """Mean and standard deviation of a cell that is not stuck, the floor at off_us left out of account.

        mean = p on + (1 − p) off;  variance = p spread² on² + p (1 − p) (on − off)²
        """
        p, apart = self.formed, self.on_us - self.off_us
        mean = p * self.on_us + (1 - p) * self.off_us
        variance = p * (self.spread * self.on_us) ** 2 + p * (1 - p) * apart**2
        return round(mean, 9), round(math.sqrt(variance), 9)

    def sample(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Draw conductances in microsiemens, float32 of ``shape``."""
        formed = torch.rand(shape, generator=generator) < self.formed
        normal = torch.randn(shape, generator=generator)
        if self.law == "normal":
            on = self.on_us * (1 + self.spread * normal)
        else:  # the logarithm's variance and mean that give the wanted ones
            variance = math.log1p(self.spread**2)
            on = self.on_us * torch.exp(math.sqrt(variance) * normal - variance / 2)
        conductance = torch.where(formed, on.clamp_min(self.off_us), torch.full(shape, self.off_us))
        return self.stick(conductance, generator)

    def stick(self, conductance: Tensor, generator: torch.Generator) -> Tensor:
        """Return conductances of which a share is stuck; the same seed at a higher share has the same cells and more.

        stuck_on counts from the one end of a uniform draw and stuck_off from the other.
        """
        chance = torch.rand(conductance.shape, generator=generator)
        stuck_on = torch.where(chance < self.stuck_on, torch.full_like(conductance, self.on_us), conductance)
        return torch.where(chance >= 1 - self.stuck_off, torch.full_like(conductance, self.off_us), stuck_on)

    def to_json(self) -> dict[str, float | str]:
        """All fields by name."""
        return asdict(self)


class FixedLinear(nn.Module):
    """A matrix that is never trained: y = gain · x Wᵀ.

    weight: (outputs, inputs), a buffer; gain: a number.  Gradients flow to ``x``, none to the weights.
    """

    weight: Tensor
    gain: Tensor

    def __init__(self, weight: Tensor, gain: float = 1.0) -> None:
        super().__init__()
        _require_matrix("weight", weight)
        require_in_range("gain", gain, 1e-30, 1e30)
        self.register_buffer("weight", weight.detach().clone())
        self.register_buffer("gain", torch.tensor(gain, dtype=torch.float64))

    @classmethod
    def gaussian(cls, inputs: int, outputs: int, generator: torch.Generator, gain: float = 1.0) -> "FixedLinear":
        """Return weights drawn from N(0, 1 / inputs)."""
        return cls(torch.randn(outputs, inputs, generator=generator) / math.sqrt(inputs), gain)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs)."""
        return nn.functional.linear(x, self.weight) * float(self.gain)

    @property
    def noisy(self) -> bool:
        """Whether two reads of the same input may differ."""
        return False


class ResistiveLinear(nn.Module):
    """A crossbar of differential pairs as it was formed: y = gain · x (G⁺ − G⁻)ᵀ, read with noise.

    A cell reads G (1 + read_noise ε) with its own normal ε at each read; the sum over the cells of a column is drawn
    in one: the noise of y has the standard deviation gain · read_noise · √(x² (G⁺² + G⁻²)ᵀ), exactly.  It is drawn
    from torch's generator (``torch.manual_seed``).
    positive, negative: conductances in microsiemens, (outputs, inputs); gain: output a microsiemens of a unit input.
    Neither is a parameter: nothing here is trained.
    Raises ShapeError where the two do not fit, RangeError for conductances that are negative or not finite.

    >>> layer = ResistiveLinear.formed(3, 2, ResistiveDevice(), torch.Generator().manual_seed(0))
    >>> layer(torch.ones(5, 3)).shape
    torch.Size([5, 2])
    """

    positive: Tensor
    negative: Tensor
    gain: Tensor

    def __init__(self, positive: Tensor, negative: Tensor, gain: float, read_noise: float = 0.0) -> None:
        super().__init__()
        for name, cells in (("positive", positive), ("negative", negative)):
            _require_matrix(name, cells)
            if not bool((torch.isfinite(cells) & (cells >= 0)).all()):
                raise RangeError(f"{name} holds conductances that are negative or not finite; they are microsiemens.")
        if positive.shape != negative.shape:
            raise ShapeError(
                f"the cells of a pair have shapes {tuple(positive.shape)} and {tuple(negative.shape)}; they must agree."
            )
        require_in_range("gain", gain, 1e-30, 1e30)
        require_in_range("read_noise", read_noise, 0.0, 10.0)
        self.register_buffer("positive", positive.detach().clone())
        self.register_buffer("negative", negative.detach().clone())
        self.register_buffer("gain", torch.tensor(gain, dtype=torch.float64))
        self.read_noise = read_noise

    @classmethod
    def formed(
        cls, inputs: int, outputs: int, device: ResistiveDevice, generator: torch.Generator, gain: float = 1.0
    ) -> "ResistiveLinear":
        """Return an array fresh from forming; weights have the variance gain² / inputs, as `FixedLinear.gaussian`'s."""
        require_in_range("inputs", inputs, 1, 10**6)
        require_in_range("outputs", outputs, 1, 10**6)
        positive, negative = (device.sample((outputs, inputs), generator) for _ in range(2))
        unit_us = device.moments_us()[1] * math.sqrt(2 * inputs)
        return cls(positive, negative, gain / unit_us, device.read_noise)

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs), without the gain, in microsiemens."""
        return self.positive - self.negative

    @property
    def noisy(self) -> bool:
        """Whether two reads of the same input may differ."""
        return self.read_noise > 0

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., inputs) to (..., outputs); each row is a read of its own."""
        y = nn.functional.linear(x, self.weight)
        if self.noisy:
            power = nn.functional.linear(x.square(), self.positive.square() + self.negative.square())
            y = y + self.read_noise * power.sqrt() * torch.randn_like(y)
        return y * float(self.gain)

    def worn(self, device: ResistiveDevice, seed: int) -> "ResistiveLinear":
        """Return this array some time later: the device's shares of its cells are stuck, and its reads are as noisy."""
        generator = torch.Generator().manual_seed(seed)
        positive, negative = (device.stick(cells, generator) for cells in (self.positive, self.negative))
        return ResistiveLinear(positive, negative, float(self.gain), device.read_noise)


def _require_matrix(name: str, weight: Tensor) -> None:
    if weight.ndim != 2 or not weight.numel() or not weight.is_floating_point():
        raise ShapeError(
            f"{name} has shape {tuple(weight.shape)} and type {weight.dtype}, but a matrix (outputs, inputs) of "
            "floating numbers was wanted."
        )
