"""Whatever goes wrong is one line, one exit code, and with --json one object; nothing is left behind."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import spikeport
from spikeport.cli import main
from spikeport.evaluation import folder

Arguments = Callable[..., list[str]]

MODULES = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, activation, branch=False):
        super().__init__()
        self.first, self.activation, self.last = nn.Linear(64, 16), activation, nn.Linear(16, 10)
        self.branch = branch

    def forward(self, x):
        x = self.activation(self.first(x.flatten(1)))
        if self.branch and x.sum() > 0:
            x = 2 * x
        return self.last(x)

def relu(): return Net(nn.ReLU())
def gelu(): return Net(nn.Sequential(nn.GELU(), nn.LayerNorm(16)))
def softmax(): return Net(nn.Softmax(1))
def branch(): return Net(nn.ReLU(), branch=True)
def prints():
    print("hello from the factory")
    return relu()
def map(): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 10, 1))
def nan():
    net = relu()
    net.last.weight.data[0, 0] = float("nan")
    return net
"""


@pytest.fixture
def zoo(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that names a factory in the working folder."""
    name = f"zoo_of_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULES, encoding="utf-8")
    return lambda function: f"{name}:{function}"


def check(done, code: int, *wanted: str) -> None:
    assert done.code == code, done.err
    assert all(part in done.error for part in wanted), done.error
    assert done.out == ""
    assert not Path("out").exists()
    assert not list(Path().glob("*.partial-*"))


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        ("gelu", ["activation.0", "GELU", "activation.1", "LayerNorm"]),
        ("softmax", ["Softmax", "activation"]),
        ("branch", ["control flow"]),
    ],
)
def test_a_module_that_is_not_covered_ends_with_4(
    command, zoo: Callable[[str], str], arguments: Arguments, function: str, wanted: list[str]
) -> None:
    check(command(*arguments(zoo(function)), "-o", "out", "--allow-code"), 4, *wanted)
    found = command("inspect", zoo(function), "--input-shape", "1,8,8", "--allow-code", "--json")
    if function == "branch":
        assert found.code == 4
        assert found.json["unsupported"] == found.json["error"]["problems"] != []
    else:
        assert found.code == 0
        assert found.json["spikes"] == ["differential"]


def test_an_onnx_that_is_not_covered_ends_with_4(
    command, make_model: Callable[..., Path], arguments: Arguments, tmp_path: Path
) -> None:
    for activation in ("Elu", "LogSoftmax <axis = 1>"):
        path = make_model(tmp_path / "model.onnx", activation)
        name = activation.split()[0]
        check(command(*arguments(path), "-o", "out"), 4, name)
        found = command("inspect", path, "--json")
        assert found.code == 4
        assert found.json["operators"][name] == 1
        assert name in found.json["unsupported"][0]
        assert command("inspect", path).code == 4
    assert command("inspect", make_model(tmp_path / "other.onnx", "Sigmoid"), "--json").json["spikes"] == [
        "differential"
    ]
    done = command(*arguments(path), "-o", "out", "--json")
    assert done.json["error"]["kind"] == "UnsupportedError"
    assert len(done.json["error"]["problems"]) == 1


def test_code_is_refused_without_trust(command, zoo: Callable[[str], str], arguments: Arguments, model: Path) -> None:
    check(command(*arguments(zoo("relu")), "-o", "out"), 2, "--allow-code", "ONNX")
    check(command(*arguments(model, zoo("relu")), "-o", "out"), 2, "--allow-code")
    assert command(*arguments(zoo("relu")), "-o", "trusted", "--allow-code").code == 0


def test_weights_that_are_not_finite_are_refused(command, zoo: Callable[[str], str], arguments: Arguments) -> None:
    check(command(*arguments(zoo("nan")), "-o", "out", "--allow-code"), 2, "last.weight", "NaN")


def test_what_a_factory_prints_stays_off_the_one_object(command, zoo: Callable[[str], str]) -> None:
    done = command("inspect", zoo("prints"), "--input-shape", "1,8,8", "--allow-code", "--json")
    assert done.json["operators"]["linear"] == 2
    assert "hello from the factory" in done.err


def test_a_network_that_gives_a_map_is_no_classifier(command, zoo: Callable[[str], str], arguments: Arguments) -> None:
    check(command(*arguments(zoo("map")), "-o", "out", "--allow-code"), 2, "(10, 6, 6)", "global pooling")
    done = command("inspect", zoo("map"), "--input-shape", "1,8,8", "--allow-code", "--json")
    assert done.code == 4
    assert "global pooling" in done.json["unsupported"][0]


RNG = np.random.default_rng(0)
X, Y = RNG.random((60, 8, 8)), np.arange(60) % 10
NAN = X.copy()
NAN[7, 3, 3] = np.nan


@pytest.mark.parametrize(
    ("arrays", "wanted"),
    [
        ({"x": X[:1], "y": Y[:1]}, "1 samples"),
        ({"x": X[:0], "y": Y[:0]}, "empty"),
        ({"x": NAN, "y": Y}, "sample 7"),
        ({"x": np.where(np.isnan(NAN), np.inf, NAN), "y": Y}, "sample 7"),
        ({"x": X[:, :5], "y": Y}, "(1, 8, 8)"),
        ({"x": X, "y": Y[:50]}, "60"),
        ({"x": X, "y": Y + 5}, "10"),
        ({"x": X, "y": Y - 1}, "-1"),
        ({"x": X, "y": Y + 0.5}, "whole numbers"),
        ({"x": np.array(["a", "b"]), "y": Y[:2]}, "numbers"),
        ({"z": X}, "holds z"),
    ],
)
def test_bad_calibration_data_end_with_2(
    command, model: Path, arguments: Arguments, arrays: dict[str, np.ndarray], wanted: str
) -> None:
    np.savez("data.npz", **arrays)
    check(command(*arguments(model, "data.npz"), "-o", "out"), 2, wanted)


@pytest.mark.parametrize(
    "extra",
    [
        ["--calibration", "missing.npz"],
        ["--calibration", "nothing"],
        ["--method", "magic"],
        ["--spikes", "graded"],
        ["--timesteps", "0"],
        ["--seed", "-1"],
        ["--seed", "4294967296"],
        ["--scale", "abc"],
        ["--scale", "0"],
        ["--mean", "1,2,3"],
        ["--std", "0"],
        ["--layout", "CHWN"],
        ["--min-accuracy", "2"],
        ["--num-samples", "0"],
        ["--weights", "w.safetensors"],
        ["--no-such-option"],
        ["-o", "missing/out"],
        ["-o", 240 * "n"],
        ["-o", "loop"],
    ],
)
def test_bad_options_end_with_2(command, model: Path, arguments: Arguments, extra: list[str]) -> None:
    Path("loop").symlink_to("loop")
    check(command(*arguments(model), "-o", "out", *extra), 2)
    done = command(*arguments(model), "-o", "out", *extra, "--json")
    assert done.code == 2
    assert set(done.json) == {"error"}
    assert set(done.json["error"]) == {"kind", "message", "problems"}
    assert done.json["error"]["message"] != ""


@pytest.mark.parametrize(
    "extra",
    [
        *(["--policy", text] for text in ("fixed", "fixed:0", "fixed:-1", "fixed:x", "fixed:99", "never", "")),
        ["--max-loss", "2"],
        ["--guarantee", "certain"],
        ["--guarantee", "loss:0.0001@0.95"],
        ["--guarantee", "coverage:0.9", "--policy", "fixed:2"],
        ["--data", "missing.npz"],
    ],
)
def test_bad_options_of_an_evaluation_end_with_2(command, converted: Path, extra: list[str]) -> None:
    before = (converted / "report.json").read_bytes()
    assert command("evaluate", converted, "--data", "digits", *extra).code == 2
    assert (converted / "report.json").read_bytes() == before


def test_a_missed_accuracy_ends_with_3_and_still_tells_the_result(command, model: Path, arguments: Arguments) -> None:
    done = command(*arguments(model), "-o", "out", "--min-accuracy", "0.999", "--json")
    assert done.code == 3
    assert done.json["error"]["kind"] == "AccuracyGateMissed"
    assert done.json["accuracy_by_step"][-1] < 0.999
    assert Path("out/report.json").is_file()
    assert command("evaluate", "out", "--data", "digits", "--limit", 30, "--min-accuracy", "0.999").code == 3
    assert command("evaluate", "out", "--data", "digits", "--limit", 30, "--min-accuracy", "0").code == 0


def test_an_existing_folder_is_refused_before_the_work(
    command, converted: Path, model: Path, arguments: Arguments
) -> None:
    done = command("convert", "missing.onnx", "--calibration", "digits", "-o", converted)
    assert (done.code, "--overwrite" in done.error) == (2, True)
    assert command(*arguments(model), "-o", "out").code == 0
    assert command(*arguments(model), "-o", "out", "--overwrite", "--seed", 5).code == 0


def test_damaged_folders_end_with_2(command, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    for arguments in (["evaluate", "d", "--data", "digits"], ["report", "d"], ["inspect", "d"], ["inspect", "nothing"]):
        assert command(*arguments).code == 2
    for name in ("network.safetensors", "ann.safetensors", "exit_calibration.npz", "report.json"):
        (tmp_path / "d" / name).write_bytes(b"damaged")
    for arguments in (["evaluate", "d", "--data", "digits"], ["report", "d"], ["inspect", "d"]):
        assert command(*arguments).code == 2


@pytest.mark.parametrize(
    ("raised", "code", "kind"),
    [
        (KeyboardInterrupt(), 130, "Interrupted"),
        (MemoryError(), 2, "MemoryError"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2, "MemoryError"),
        (OSError(5, "Input/output error"), 2, "OSError"),
        (spikeport.BackendUnavailable("no chip"), 5, "BackendUnavailable"),
        (spikeport.WorkerCrashed("gone"), 5, "WorkerCrashed"),
        (spikeport.AccuracyGateMissed("low"), 3, "AccuracyGateMissed"),
        (spikeport.UnsupportedError("not covered", ["a (GELU)"]), 4, "UnsupportedError"),
        (spikeport.ShapeError("wrong"), 2, "ShapeError"),
    ],
)
def test_each_kind_of_error_has_its_code(
    command, converted: Path, monkeypatch: pytest.MonkeyPatch, raised: BaseException, code: int, kind: str
) -> None:
    def fail(*arguments: object, **named: object) -> None:
        raise raised

    monkeypatch.setattr("spikeport.evaluation.folder.read_folder", fail)
    done = command("evaluate", converted, "--data", "digits", "--json")
    assert (done.code, done.json["error"]["kind"]) == (code, kind)
    assert done.error


def test_a_fault_of_our_own_is_not_hidden(command, converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise ZeroDivisionError("bug")

    monkeypatch.setattr("spikeport.evaluation.folder.read_folder", fail)
    with pytest.raises(ZeroDivisionError):
        command("evaluate", converted, "--data", "digits")


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "a\x1b[31mb", "line\nbreak", "[/]", "%s{0}"])
def test_names_are_printed_as_they_are_and_harmless(command, name: str) -> None:
    done = command("inspect", f"{name}.txt")
    assert done.code == 2
    assert "\x1b" not in done.err
    assert name.startswith(("a\x1b", "line")) or repr(f"{name}.txt") in done.error


def test_ctrl_c_while_writing_leaves_nothing(
    command, model: Path, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("spikeport.evaluation.folder.replace_folder", interrupt)
    check(command(*arguments(model), "-o", "out"), 130, "interrupted")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_python_drops_counts_all_the_same(
    command, model: Path, arguments: Arguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dropping:
        def __del__(self) -> None:
            signal.raise_signal(signal.SIGTERM)  # what is raised in here only becomes a warning

    write = folder.replace_folder

    def written(*given: object) -> object:
        Dropping()
        return write(*given)

    monkeypatch.setattr(folder, "replace_folder", written)
    done = command(*arguments(model), "-o", "out")
    assert done.code == 130
    assert done.error == "interrupted"


def test_the_message_says_where_help_is(command) -> None:
    assert "spikeport convert --help" in command("convert").error
    assert main.run(["nonsense"]) == 2
