"""Programs and factories: read only with trust, and then as exactly as any other network."""

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from spikeport import CorruptFileError, RangeError, ShapeError, SpikeportError, UnsupportedError
from spikeport.conversion.open import open_model
from spikeport.conversion.source import check_source

SHAPE = (1, 8, 8)
FACTORY = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        return self.head(torch.flatten(self.features(x), 1))

def make():
    return Net()

def no_module():
    return 3

def leaves():
    raise SystemExit(0)
"""


class Net(nn.Module):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), activation, nn.MaxPool2d(2))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).view(x.shape[0], -1))


def save(path: Path, *, dynamic: bool = False, batch: int = 2, activation: nn.Module | None = None) -> Net:
    torch.manual_seed(0)
    net = Net(activation or nn.ReLU()).eval()
    shapes = ({0: torch.export.Dim("batch", min=1)},) if dynamic else None
    torch.export.save(torch.export.export(net, (torch.rand(batch, *SHAPE),), dynamic_shapes=shapes), path)
    return net


def samples(n: int = 7) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    save(path)
    return path


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """A module in the working folder, each time under another name, as Python remembers what it imported."""
    monkeypatch.chdir(tmp_path)
    name = f"factory_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(FACTORY, encoding="utf-8")
    return lambda function: f"{name}:{function}"


@pytest.mark.parametrize(("dynamic", "batch"), [(False, 1), (False, 2), (True, 2)])
def test_a_program_keeps_its_output_whatever_its_batch(tmp_path: Path, dynamic: bool, batch: int) -> None:
    net = save(tmp_path / "net.pt2", dynamic=dynamic, batch=batch)
    source = open_model(str(tmp_path / "net.pt2"), allow_code=True)
    x = samples()
    assert source.graph.shapes[source.graph.input.name] == SHAPE
    assert check_source(source, x) < 1e-5
    with torch.inference_mode():
        np.testing.assert_allclose(source.run(x), net(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-6)
    assert {"features.0", "head"} <= set(source.graph.by_name)


def test_a_program_needs_trust_and_the_refusal_names_what_does_not(program: Path) -> None:
    with pytest.raises(SpikeportError, match=r"run code.*--allow-code.*ONNX.*safetensors"):
        open_model(str(program))


def test_a_hostile_program_runs_code_and_only_with_trust(program: Path, tmp_path: Path) -> None:
    hostile, marker = tmp_path / "hostile.pt2", tmp_path / "ran"
    hostile.write_bytes(infected(program, marker))
    code = (
        "import sys; from spikeport.conversion.open import open_model\n"
        "try: open_model(sys.argv[1], allow_code=sys.argv[2] == 'yes')\n"
        "except Exception as error: print(type(error).__name__)"
    )
    for trusted in ("no", "yes"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code, hostile, trusted], capture_output=True, text=True, check=True
        )
        assert marker.exists() == (trusted == "yes"), done.stdout + done.stderr
        assert trusted == "yes" or done.stdout.strip() == "SpikeportError"


def infected(program: Path, marker: Path) -> bytes:
    """The program with a pickle in the place of its sample inputs, which makes a file when it is read."""
    import io
    import pickle

    class Payload:
        def __reduce__(self) -> tuple[object, ...]:
            return (exec, (f"open({str(marker)!r}, 'w').close()",))

    buffer = io.BytesIO()
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(buffer, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("sample_inputs/model.pt"):
                content = pickle.dumps((Payload(),))
            new.writestr(entry.filename, content)
    return buffer.getvalue()


class Named(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.net(x)}


@pytest.mark.parametrize(
    ("make", "kind", "word"),
    [
        (lambda: Named(Net(nn.ReLU())), torch.float32, "returns a dict"),
        (lambda: Net(nn.ReLU()).double(), torch.float64, "float64 weights"),
        (lambda: nn.Sequential(nn.Flatten(), nn.ReLU()), torch.float64, "float32 inputs"),
    ],
)
def test_programs_of_another_form_are_refused(
    make: Callable[[], nn.Module], kind: torch.dtype, word: str, tmp_path: Path
) -> None:
    torch.export.save(torch.export.export(make().eval(), (torch.rand(2, *SHAPE, dtype=kind),)), tmp_path / "net.pt2")
    with pytest.raises(UnsupportedError, match=word):
        open_model(str(tmp_path / "net.pt2"), allow_code=True)


def test_an_operator_that_is_not_covered_is_named(tmp_path: Path) -> None:
    save(tmp_path / "net.pt2", activation=nn.Softplus())
    with pytest.raises(UnsupportedError, match=r"features\.2") as caught:
        open_model(str(tmp_path / "net.pt2"), allow_code=True)
    assert len(caught.value.problems) == 1


def test_nan_weights_are_refused(tmp_path: Path) -> None:
    net = Net(nn.ReLU()).eval()
    with torch.no_grad():
        net.head.bias[0] = torch.nan
    torch.export.save(torch.export.export(net, (torch.rand(2, *SHAPE),)), tmp_path / "net.pt2")
    with pytest.raises(RangeError, match=r"head\.bias"):
        open_model(str(tmp_path / "net.pt2"), allow_code=True)


def test_a_truncated_program_is_a_typed_error(program: Path, tmp_path: Path) -> None:
    content = program.read_bytes()
    for share in (0.0, 0.1, 0.5, 0.9, 0.999):
        (tmp_path / "cut.pt2").write_bytes(content[: int(share * len(content))])
        with pytest.raises(CorruptFileError, match=r"cut\.pt2"):
            open_model(str(tmp_path / "cut.pt2"), allow_code=True)


def test_a_factory_takes_its_weights_strictly(factory: Callable[[str], str], tmp_path: Path) -> None:
    torch.manual_seed(1)
    net = Net(nn.ReLU()).eval()
    save_model(net, str(tmp_path / "weights.safetensors"))
    spec = factory("make")
    source = open_model(spec, features=SHAPE, weights=tmp_path / "weights.safetensors", allow_code=True)
    x = samples()
    check_source(source, x)
    with torch.inference_mode():
        np.testing.assert_allclose(source.run(x), net(torch.from_numpy(x)).numpy(), rtol=1e-5, atol=1e-6)

    tensors = dict(net.state_dict())
    tensors["extra"] = tensors.pop("head.bias")
    tensors["head.weight"] = torch.zeros(3, 3)
    save_file(tensors, str(tmp_path / "other.safetensors"))
    with pytest.raises(ShapeError) as caught:
        open_model(spec, features=SHAPE, weights=tmp_path / "other.safetensors", allow_code=True)
    assert all(part in str(caught.value) for part in ("missing: head.bias", "unexpected: extra", "head.weight: (3, 3)"))


def test_a_factory_without_weights_says_so(factory: Callable[[str], str]) -> None:
    source = open_model(factory("make"), features=SHAPE, allow_code=True)
    assert any("--weights" in note for note in source.notes)


@pytest.mark.parametrize(
    ("function", "allow_code", "features", "wanted"),
    [
        ("make", False, SHAPE, "--allow-code"),
        ("make", True, None, "shape"),
        ("make", True, (3, 8, 8), r"\(3, 3, 8, 8\)"),
        ("no_module", True, SHAPE, "returned a int"),
        ("leaves", True, SHAPE, "SystemExit"),
        ("nothing", True, SHAPE, "nothing"),
    ],
)
def test_a_factory_that_cannot_be_used_is_a_typed_error(
    factory: Callable[[str], str], function: str, allow_code: bool, features: tuple[int, ...] | None, wanted: str
) -> None:
    with pytest.raises(SpikeportError, match=wanted):
        open_model(factory(function), features=features, allow_code=allow_code)


def test_damaged_weights_are_a_typed_error(factory: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(CorruptFileError, match=r"weights\.safetensors"):
        open_model(factory("make"), features=SHAPE, weights=tmp_path / "weights.safetensors", allow_code=True)


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.txt", "net", "", "net.safetensors", "missing.onnx"])
def test_other_forms_are_refused_with_what_to_do(name: str) -> None:
    with pytest.raises(SpikeportError, match=r"onnx"):
        open_model(name, allow_code=True)


def test_weights_without_a_factory_are_refused() -> None:
    with pytest.raises(SpikeportError, match="factory"):
        open_model("net.onnx", weights="w.safetensors")
