import shutil
from collections.abc import Callable
from pathlib import Path

from spikeport.cli.convert import _asked


def test_evaluate_takes_the_integer_network(command, converted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(converted, folder)
    asked = ("evaluate", folder, "--data", "digits", "--limit", "40", "--drop-shared", "--no-timing", "--json")
    done = command(*asked, "--bits", "8")
    assert done.code == 0, done.err
    assert done.json["bits"] == 8
    assert done.json["early_exit"]["engine_mismatches"] == 0
    assert command("report", folder, "--json").json["evaluated"] is True
    assert command(*asked).json["bits"] is None


def test_other_bits_are_refused(command, converted: Path) -> None:
    assert command("evaluate", converted, "--data", "digits", "--bits", "4").code == 2


def test_rounding_is_fitted_when_asked(command, model: Path, arguments: Callable[..., list[str]]) -> None:
    done = command(*arguments(model), "-o", "out", "--rounding", "fitted", "--json")
    assert done.code == 0, done.err
    assert done.json["integer"]["rounding"] == "fitted"
    refused = command(*arguments(model), "-o", "other", "--rounding", "up", "--json")
    assert refused.code == 2
    assert "nearest, fitted" in refused.err
    assert not Path("other").exists()


def test_a_search_keeps_to_the_spikes_that_were_named() -> None:
    assert _asked(0.5, "auto", "binary", 32).codes == ("binary",)
    assert _asked(0.5, "auto", "signed", 32).codes == ("signed",)
    assert set(_asked(0.5, "auto", None, 32).codes) > {"binary", "signed"}
