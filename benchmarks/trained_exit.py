"""Early exit of networks that were trained with spikes.

python benchmarks/trained_exit.py --data FOLDER [--tasks NAME ...]

FOLDER is the one that SPIKEPORT_DATA names.  Each task is trained as anyone would do it, by `spikeport train`, small
and with one seed; its exit rules are calibrated on validation samples, and measured on samples that chose nothing, as
in exit_rules.py, whose results they join.  A fifth of N-MNIST's recordings and the takes 40 to 49 of the spoken digits
are the test.  Spoken digits are mel events that are laid out on the pixels of a camera.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from exit_rules import compared, keep

from spikeport import load_data
from spikeport.data import folds, load_recordings, mel_events, mel_levels
from spikeport.evaluation.folder import read_folder
from spikeport.evaluation.recordings import framing_of, load_recorded

SIDE = 34  # pixels of the camera
STEP_US = 16_000  # of the mel spectrum
FASHION = """
[data]
train = "{data}/fashion_mnist.npz:x_train,y_train"
scale = "1/255"
mean = [0.5]
std = [0.5]
augment = ["flip"]
[encoder]
steps = 8
[network]
layers = [
    "conv 16 3x3", "pool 2", "norm", "leaky", "conv 32 3x3", "pool 2", "norm", "leaky", "flatten", "linear 10",
    "integrator 1.0",
]
beta = 0.8
[training]
epochs = 3
tensorboard = false
"""
RECORDINGS = """
[data]
train = "{out}/train.npz"
form = "events"
validation_share = 0.2
augment = {augment}
[encoder]
kind = "sequence"
steps = {steps}
frame_ms = {frame_ms}
pool = {pool}
[network]
layers = {layers}
beta = 0.9
[loss]
gain = {gain}
[optimizer]
learning_rate = 0.003
weight_decay = 0.02
[training]
epochs = {epochs}
batch_size = 32
tensorboard = false
"""
NMNIST = {
    "augment": '["turn 12", "stretch 0.15", "shift 2"]',
    "steps": 16,
    "frame_ms": 19,
    "pool": 2,
    "gain": 0.1,
    "epochs": 40,
    "layers": '["conv 24 3x3", "pool 2", "norm", "leaky", "conv 48 3x3", "pool 2", "norm", "leaky", "flatten", '
    '"dropout 0.3", "linear 10", "integrator 1.0"]',
}
SPOKEN = {
    "augment": "[]",
    "steps": 50,
    "frame_ms": STEP_US / 1000,
    "pool": 1,
    "gain": 0.05,
    "epochs": 30,
    "layers": '["flatten", "linear 128", "norm", "leaky", "dropout 0.2", "linear 128", "norm", "leaky", "dropout 0.2", '
    '"linear 10", "integrator 1.0"]',
}


def save_recordings(path: Path, held: Any, which: np.ndarray) -> None:
    """Some recordings of an event file."""
    begin, end = held["offsets"][:-1][which], held["offsets"][1:][which]
    rows = np.concatenate([np.arange(a, b) for a, b in zip(begin, end, strict=True)])
    offsets = np.concatenate([[0], np.cumsum(end - begin)])
    np.savez(path, offsets=offsets, label=held["label"][which], **{key: held[key][rows] for key in "xypt"})


def nmnist(data: Path, out: Path) -> str:
    """Split the recordings, and return the settings."""
    with np.load(data / "nmnist_events_train800.npz") as archive:
        held = {key: archive[key] for key in ("x", "y", "p", "t", "offsets", "label")}
    test = folds(held["label"].astype(np.int64), 5, 0) == 0
    save_recordings(out / "train.npz", held, np.flatnonzero(~test))
    save_recordings(out / "test.npz", held, np.flatnonzero(test))
    return RECORDINGS.format(out=out, **NMNIST)


def spoken_digits(data: Path, out: Path) -> str:
    """Lay the mel events out as those of a camera, and return the settings."""
    sounds = load_recordings(data / "fsdd_8khz_takes5_49.npz")
    spikes = mel_events(mel_levels(sounds))  # (n, steps, bands that rise and bands that fall)
    n, _, lines = spikes.shape
    index, step, line = np.nonzero(spikes)
    band, polarity = line % (lines // 2), line // (lines // 2)
    held = {"x": (band % SIDE).astype(np.uint8), "y": (band // SIDE).astype(np.uint8), "p": polarity.astype(np.uint8)}
    held |= {"t": (step * STEP_US + STEP_US // 2).astype(np.int32), "label": sounds.labels}
    held["offsets"] = np.concatenate([[0], np.cumsum(np.bincount(index, minlength=n))])
    save_recordings(out / "train.npz", held, np.flatnonzero(sounds.takes < 40))
    save_recordings(out / "test.npz", held, np.flatnonzero(sounds.takes >= 40))
    return RECORDINGS.format(out=out, **SPOKEN)


def fashion(data: Path, out: Path) -> str:
    """Return the settings."""
    return FASHION.format(data=data)


TASKS = {
    "fashion_trained": ("Fashion-MNIST, trained with spikes", fashion),
    "nmnist_trained": ("N-MNIST events, trained with spikes", nmnist),
    "spoken_trained": ("spoken digits as mel events, trained with spikes", spoken_digits),
}


def main() -> None:
    """Train and measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--max-loss", type=float, default=0.002)
    options = parser.parse_args()
    for name in options.tasks:
        title, prepare = TASKS[name]
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder)
            (out / "settings.toml").write_text(prepare(options.data.resolve(), out))
            command = [Path(sys.executable).with_name("spikeport"), "train", out / "settings.toml", "-o", out / "run"]
            subprocess.run(list(map(str, command)), check=True)
            held = read_folder(out / "run" / "network")
            framing = framing_of(held.spiking)
            if framing is None:
                images = f"{options.data.resolve()}/fashion_mnist.npz:x_test,y_test"
                features, classes = held.shapes
                test = load_data(images, held.preprocessing, part="evaluation", features=features, classes=classes)
            else:
                test = load_recorded(held.spiking, framing, str(out / "test.npz"))
            keep(name, compared(title, held, test, max_loss=options.max_loss))


if __name__ == "__main__":
    main()
