"""The file of a training: TOML or YAML, read strictly."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

from .._check import BackendUnavailable, RangeError, SpikeportError
from .fields import describe, read_section, unknown_key
from .losses import (
    AnytimeCrossEntropy,
    Loss,
    MembraneCrossEntropy,
    RateCrossEntropy,
    SnnTorchLoss,
    SpikeCountError,
    TemporalEfficient,
)
from .penalties import RateBounds, SpikeSparsity
from .settings import (
    DataSettings,
    EncoderSettings,
    LossSettings,
    NetworkSettings,
    OptimizerSettings,
    TrainingSettings,
)

__all__ = ["Config", "make_loss", "make_penalties", "read_config", "reference"]


@dataclass(frozen=True)
class Config:
    """All sections of a training; ``Config()`` trains a small network on the digits."""

    data: DataSettings = field(default_factory=DataSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    network: NetworkSettings = field(default_factory=NetworkSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> "Config":
        """Check tables by section name; raises RangeError for an unknown section or key, and a value out of range.

        >>> Config.of({"training": {"epochs": 3}}).training.epochs
        3
        """
        kinds = get_type_hints(cls)
        if unknown := [str(name) for name in tables if name not in kinds]:
            raise RangeError(f"{'; '.join(unknown_key(name, list(kinds)) for name in unknown)}.")
        return cls(**{name: read_section(kinds[name], table, name) for name, table in tables.items()})


def read_config(path: str | Path) -> Config:
    """Read and check a ``.toml``, ``.yaml`` or ``.yml`` file.

    Raises SpikeportError for a file that cannot be read or parsed, RangeError for what is in it.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpikeportError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    if path.suffix == ".toml":
        try:
            tables: Any = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SpikeportError(f"{path} is no TOML: {error}.") from error
    elif path.suffix in (".yaml", ".yml"):
        tables = _read_yaml(path, text)
    else:
        raise SpikeportError(f"{path} has the ending {path.suffix!r}, but .toml, .yaml or .yml is read.")
    if not isinstance(tables, Mapping):
        raise RangeError(f"{path} holds {type(tables).__name__}, but sections are wanted: {', '.join(_sections())}.")
    try:
        return Config.of(tables)
    except RangeError as error:
        raise RangeError(f"{path}: {error}") from None


def _read_yaml(path: Path, text: str) -> Any:
    try:
        yaml = import_module("yaml")
    except ImportError as error:
        raise BackendUnavailable(
            f"{path} needs PyYAML: pip install spikeport[train], or write the settings as .toml."
        ) from error

    class Strict(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        """Refuses a key that stands there twice, of which YAML would take the last."""

    def mapping(loader: Any, node: Any) -> dict[Any, Any]:
        keys = [loader.construct_object(key) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise RangeError(f"{path}: {twice[0]!r} stands there twice.")
        return {
            key: loader.construct_object(value, deep=True) for key, (_, value) in zip(keys, node.value, strict=True)
        }

    Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        found = yaml.load(text, Strict)
    except yaml.YAMLError as error:
        raise SpikeportError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error
    return {} if found is None else found


def make_loss(settings: LossSettings) -> Loss:
    """Return the loss that the settings name; raises RangeError for a name that there is not."""
    if settings.kind.startswith("snntorch."):
        return SnnTorchLoss(settings.kind.removeprefix("snntorch."))
    smoothing = settings.label_smoothing
    match settings.kind:
        case "rate_cross_entropy":
            return RateCrossEntropy(settings.gain, smoothing)
        case "anytime_cross_entropy":
            return AnytimeCrossEntropy(settings.gain, smoothing)
        case "temporal_efficient":
            return TemporalEfficient(settings.weight, settings.level, settings.gain, smoothing)
        case "spike_count_error":
            return SpikeCountError(settings.correct_rate, settings.incorrect_rate)
        case "membrane_cross_entropy":
            return MembraneCrossEntropy(smoothing)
    known = [
        "rate_cross_entropy", "anytime_cross_entropy", "temporal_efficient", "spike_count_error",
        "membrane_cross_entropy", "snntorch.NAME",
    ]  # fmt: skip
    raise RangeError(f"[loss] kind: {unknown_key(settings.kind, known)}.")


def make_penalties(settings: LossSettings) -> tuple[SpikeSparsity | RateBounds, ...]:
    """Return the penalties whose weight is not 0."""
    made: list[SpikeSparsity | RateBounds] = []
    if settings.sparsity:
        made.append(SpikeSparsity(settings.sparsity))
    if settings.rate_weight:
        made.append(RateBounds(settings.rate_low, settings.rate_high, settings.rate_weight))
    return tuple(made)


def _sections() -> list[str]:
    return [each.name for each in fields(Config)]


def reference() -> str:
    """All sections and fields as Markdown tables."""
    parts = []
    for name, kind in get_type_hints(Config).items():
        head = [
            f"## [{name}]",
            "",
            kind.__doc__,
            "",
            "| field | default | unit | allowed | meaning |",
            "|---|---|---|---|---|",
        ]
        rows = [
            f"| `{n}` | `{default}` | {unit} | {allowed} | {meaning} |"
            for n, default, unit, allowed, meaning in describe(kind)
        ]
        parts += [*head, *rows, ""]
    return "\n".join(parts)
