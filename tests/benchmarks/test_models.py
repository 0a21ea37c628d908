"""The torch networks that peers are handed are the published ones, in every form."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor


@pytest.fixture
def models(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(root / "benchmarks"))
    yield importlib.import_module("models")
    for name in ("models", "resnet20"):
        sys.modules.pop(name, None)


def raw_samples(data_dir: Path, name: str, count: int) -> tuple[np.ndarray, Tensor]:
    """Samples as the file holds them; random pixels stand for the images that only a JPEG decoder gives."""
    if name.startswith("resnet20"):
        return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8), torch.zeros(count)
    file, x, y = ("kws_mfcc_500", "x_int8", "y") if name.startswith("dscnn") else ("mnist", "x_test", "y_test")
    with np.load(data_dir / f"{file}.npz") as stored:
        return stored[x][:count], torch.from_numpy(stored[y][:count].astype(np.int64))


@torch.no_grad()
def outputs(models: ModuleType, data_dir: Path, name: str, count: int) -> tuple[Tensor, Tensor, Tensor]:
    model = models.MODELS[name]
    raw, y = raw_samples(data_dir, name, count)
    x = model.prepare(raw)
    return x, model.load(data_dir / model.file)(x), y


@pytest.mark.parametrize(("name", "least"), [("mnist_cnn", 0.96), ("mnist8", 0.98), ("dscnn", 0.87)])
def test_a_published_network_is_as_accurate_as_published(
    models: ModuleType, data_dir: Path, name: str, least: float
) -> None:
    _, output, y = outputs(models, data_dir, name, 500)
    assert (output.argmax(1) == y).double().mean() >= least


@pytest.mark.needs("onnxruntime")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mnist8", "mnist8_cntk"),
        ("resnet20", "cifar10_resnet20_akamaster"),
        ("dscnn", "mlperf_tiny_kws_dscnn_float"),
    ],
)
def test_the_torch_network_computes_what_the_onnx_file_computes(
    models: ModuleType, data_dir: Path, name: str, file: str
) -> None:
    import onnxruntime

    x, output, _ = outputs(models, data_dir, name, 5)
    session = onnxruntime.InferenceSession(data_dir / "models" / f"{file}.onnx", providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    images = x.permute(0, 2, 3, 1) if name == "dscnn" else x
    expected = np.concatenate([session.run(None, {entry.name: image[None].numpy()})[0] for image in images])
    found = output.softmax(1) if name == "dscnn" else output  # the file ends in a softmax, the network in its logits
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("rewritten", "original"),
    [("resnet20_relu_modules", "resnet20"), ("resnet20_rewritten", "resnet20"), ("dscnn_rewritten", "dscnn")],
)
def test_a_rewritten_network_computes_the_same(
    models: ModuleType, data_dir: Path, rewritten: str, original: str
) -> None:
    _, found, _ = outputs(models, data_dir, rewritten, 5)
    _, expected, _ = outputs(models, data_dir, original, 5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_training_the_digits_network_twice_gives_the_same(models: ModuleType) -> None:
    x, y = torch.rand(40, 1, 8, 8), torch.arange(40) % 10
    first, second = (models.train_digits_cnn(x, y, seed=3, epochs=1).state_dict() for _ in range(2))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
