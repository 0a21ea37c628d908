"""From the settings of a training to a trained network: data, encoder, network, loss, loop."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from .._check import RangeError, ShapeError, SpikeportError, UnsupportedError, call_named
from ..data import (
    Affine,
    Dataset,
    Delta,
    Direct,
    Events,
    Flip,
    Latency,
    Part,
    Preprocessing,
    Rate,
    Sequence,
    Shift,
    default_preprocessing,
    load_data,
    load_events,
    parse_scale,
    split_validation,
)
from ..inference import accuracy_interval
from ..training.architectures import build_network
from ..training.checkpoint import load_checkpoint
from ..training.config import Config, make_loss, make_penalties
from ..training.loop import CHECKPOINT, Progress
from ..training.processes import measure, train
from ..training.randomness import seed_everything
from ..training.settings import DataSettings, EncoderSettings, NetworkSettings
from ..training.step import Samples, Task
from .folder import Render, write_folder
from .recordings import Framing, frame_hashes
from .trained import trained_network

__all__ = ["load_trained", "make_task", "parse_augmentation", "train_network"]

_AFFINE = {"turn": "degrees", "stretch": "stretch", "shear": "shear"}  # words of [data] augment, fields of Affine
NETWORK = "network"  # the folder, inside that of the training, that `spikeport evaluate` takes


@dataclass(frozen=True)
class _InTurn:
    """Random changes one after the other."""

    changes: tuple[Callable[[Tensor], Tensor], ...]

    def __call__(self, x: Tensor) -> Tensor:
        for change in self.changes:
            x = change(x)
        return x


class _Given(NamedTuple):
    """The data of a training, and of arrays what evaluation needs: the held-out samples, the others' hashes."""

    fit: Samples
    validation: Samples
    held_out: Dataset
    trained_on: NDArray[np.bytes_]
    framing: Framing | None = None  # of events


def train_network(
    config: Config,
    folder: str | Path,
    *,
    resume: bool = False,
    allow_code: bool = False,
    progress: Progress | None = None,
    render: Render | None = None,
) -> dict[str, Any]:
    """Train what ``config`` says into ``folder``; return the result as JSON.

    The validation samples are held out of the training data and choose the epoch; the test data, where the config names
    some, are looked at once, at the end.
    allow_code: trust data and networks that are Python functions.
    render: makes the page of a report; where given, a network that sees the same sample at each step is written into
    the folder ``network`` too, which is evaluated, exits early and is reported as a converted one.
    """
    given = _training_data(config, allow_code=allow_code)
    task = _task(config, given, allow_code=allow_code)
    test = _test_data(config, given.framing, allow_code=allow_code) if config.data.test else None
    if test is not None:
        _require_alike(config.data.test, test, task)
    result = train(task, config.training, config.optimizer, folder=folder, resume=resume, progress=progress)
    best, n = result["best"], result["n"]
    best["accuracy_ci95"] = list(accuracy_interval(best["accuracy"], n["validation"]))
    if test is not None:
        measured = measure(task, test, config.training)
        interval = list(accuracy_interval(measured["accuracy"], measured["n"]))
        result["test"] = {"data": config.data.test, **measured, "accuracy_ci95": interval}
    if render is not None:
        reason = _why_not_written(config) or _write(config, task, given, Path(folder), render)
        result["notes"] = [*result["notes"], *([reason] if reason else [])]
        result["network"] = None if reason else str(Path(folder) / NETWORK)
    return {"data": config.data.train, **result, "parameters": _count(task.network), "folder": str(folder)}


def _require_alike(spec: str, test: Samples, task: Task) -> None:
    """Raise where the test samples do not fit the network, before the long work."""
    if test.x.shape[1:] != task.train.x.shape[1:]:
        raise ShapeError(
            f"{spec} holds samples of shape {tuple(test.x.shape[1:])}, but those of the training have "
            f"{tuple(task.train.x.shape[1:])}."
        )
    classes = int(max(task.train.y.max(), task.validation.y.max())) + 1
    if not len(test) or int(test.y.min()) < 0 or int(test.y.max()) >= classes:
        found = f"{int(test.y.min())} to {int(test.y.max())}" if len(test) else "none"
        raise RangeError(f"{spec} has labels {found}, but 0 to {classes - 1} are those of the training.")


def _why_not_written(config: Config) -> str:
    if config.encoder.kind != ("sequence" if config.data.form == "events" else "direct"):
        return "no network folder was written: evaluation shows the same sample at each step, this network saw others."
    if config.loss.kind == "membrane_cross_entropy" or "temporal" in config.loss.kind.removeprefix(
        "temporal_efficient"
    ):
        return "no network folder was written: evaluation decides by sums over time, this network by another rule."
    return ""


def _write(config: Config, task: Task, given: _Given, folder: Path, render: Render) -> str:
    """Write the network folder; return why it could not be, or nothing."""
    try:
        made = trained_network(
            task.network.cpu(),
            given.held_out,
            timesteps=config.encoder.steps,
            trained_on=given.trained_on,
            seed=config.training.seed,
            framing=given.framing,
        )
    except UnsupportedError as error:
        return f"no network folder was written: {error}"
    write_folder(folder / NETWORK, made, render, overwrite=True)
    return ""


def make_task(config: Config, *, allow_code: bool = False) -> Task:
    """Return data, network, encoder and loss that the settings name; the network's weights follow from the seed."""
    return _task(config, _training_data(config, allow_code=allow_code), allow_code=allow_code)


def _task(config: Config, given: _Given, *, allow_code: bool) -> Task:
    encode = _encoder(config.encoder)
    features = tuple(encode(given.fit.x[:1]).shape[2:])
    seed_everything(config.training.seed)
    network = _network(config.network, features, allow_code=allow_code)
    return Task(
        network,
        given.fit,
        given.validation,
        encode,
        make_loss(config.loss),
        make_penalties(config.loss),
        parse_augmentation(config.data.augment),
        {"config": asdict(config), "features": list(features)},
    )


def load_trained(folder: str | Path, *, allow_code: bool = False) -> nn.Module:
    """Return the network of a training's folder, with the weights of its best epoch, in evaluation mode.

    Raises CorruptFileError for a damaged checkpoint.
    """
    state = load_checkpoint(Path(folder) / CHECKPOINT)
    information = state["information"]
    if "config" not in information:
        raise SpikeportError(f"{folder} was trained from Python; make its network there, and load `best` into it.")
    settings = Config.of(information["config"]).network
    network = _network(settings, tuple(information["features"]), allow_code=allow_code)
    network.load_state_dict(state["best"]["network"])
    return network.eval()


def _count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def _network(settings: NetworkSettings, features: tuple[int, ...], *, allow_code: bool) -> nn.Module:
    if not settings.factory:
        return build_network(settings, features)
    if not allow_code:
        raise SpikeportError(
            f"{settings.factory} names a Python function, and calling it runs its code; pass --allow-code if you "
            f"trust it, or describe the network in [network] layers."
        )
    made = call_named(settings.factory, "a torch.nn.Module with `output, state = network(x, state)`")
    if not isinstance(made, nn.Module):
        raise SpikeportError(f"{settings.factory} returned {type(made).__name__}, but a torch.nn.Module is wanted.")
    return made


def _training_data(config: Config, *, allow_code: bool) -> _Given:
    """Read what to train on once, and hold out the validation samples."""
    if config.data.form == "events":
        return _training_events(config)
    data = _dataset(config, config.data.train, "calibration", allow_code=allow_code)
    fit, held_out = (data.take(part) for part in _split(config, data.y))
    return _Given(_samples(fit), _samples(held_out), held_out, fit.hashes)


def _training_events(config: Config) -> _Given:
    """Recordings, as the bytes that their frames are."""
    events = _events(config, config.data.train)
    framing = _framing(config, events)
    fit, held_out = (events.take(part) for part in _split(config, events.labels))
    samples, chosen = _frames(framing, fit), framing.dataset(held_out, config.data.train)
    return _Given(samples, _samples(chosen), chosen, frame_hashes(samples.x.numpy()), framing)


def _test_data(config: Config, framing: Framing | None, *, allow_code: bool) -> Samples:
    """The test samples; events in frames as long as those of the training."""
    if framing is not None:
        return _frames(framing, _events(config, config.data.test))
    return _samples(_dataset(config, config.data.test, "evaluation", allow_code=allow_code))


def _samples(data: Dataset) -> Samples:
    return Samples(torch.from_numpy(data.x), torch.as_tensor(data.y))


def _dataset(config: Config, spec: str, part: Part, *, allow_code: bool) -> Dataset:
    """A set of arrays with its labels."""
    limit = config.data.limit or None
    data = load_data(spec, _preprocessing(config.data, spec), part=part, limit=limit, allow_code=allow_code)
    if data.y is None:
        raise RangeError(f"{spec} has no labels; name them: file.npz:xname,yname.")
    return data


def _split(config: Config, labels: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return split_validation(labels, config.data.validation_share, config.training.seed)


def _events(config: Config, spec: str) -> Events:
    return load_events(spec, limit=config.data.limit or None)


def _framing(config: Config, events: Events) -> Framing:
    """How events become frames; the longest recording of the training fills them where no length is given."""
    settings = config.encoder
    if settings.kind != "sequence":
        raise RangeError(f"[encoder] kind is {settings.kind!r}, but events in frames are a sequence already.")
    frame_us = round(1000 * settings.frame_ms) or -(-events.duration_us // settings.steps)
    return Framing(settings.steps, frame_us, settings.pool, *events.size)


def _frames(framing: Framing, events: Events) -> Samples:
    return Samples(torch.from_numpy(framing.frames(events)), torch.from_numpy(events.labels))


def _preprocessing(settings: DataSettings, spec: str) -> Preprocessing:
    default = default_preprocessing(spec)
    given: Mapping[str, Any] = {
        "scale": parse_scale(settings.scale) if settings.scale else default.scale,
        "mean": settings.mean or default.mean,
        "std": settings.std or default.std,
    }
    return Preprocessing(**given)


def _encoder(settings: EncoderSettings) -> Callable[[Tensor], Tensor]:
    match settings.kind:
        case "direct":
            return Direct(settings.steps)
        case "rate":
            return Rate(settings.steps, settings.gain, settings.offset)
        case "latency":
            return Latency(settings.steps, settings.threshold, settings.tau, linear=settings.linear)
        case "delta":
            return Delta(settings.threshold, settings.off_spikes)
        case _:
            return Sequence()


def parse_augmentation(words: tuple[str, ...]) -> Callable[[Tensor], Tensor] | None:
    """The random changes of training images that words such as "flip" and "shift 2" name; None without any."""
    changes: list[Callable[[Tensor], Tensor]] = []
    affine: dict[str, float] = {}
    for each in words:
        kind, _, size = each.partition(" ")
        if each == "flip":
            changes.append(Flip())
        elif kind == "shift" and size.isascii() and size.isdigit():
            changes.append(Shift(int(size)))
        elif kind in _AFFINE and size:
            affine[_AFFINE[kind]] = parse_scale(size)
        else:
            raise RangeError(
                f'augment has {each!r}, but "flip", "shift PIXELS", "turn DEGREES", "stretch SHARE" or '
                f'"shear SHARE" is wanted.'
            )
    if affine:  # all of them at once, so that pixels are read between only once
        changes.append(Affine(**affine))
    return _InTurn(tuple(changes)) if changes else None
