"""The exported script gives what the reference gives, without spikeport."""

import runpy
import sys

import numpy as np
import pytest

from spikeport import ShapeError, SpikeportError
from spikeport.hardware.brian_export import export_brian
from spikeport.hardware.reference import run_reference


@pytest.mark.needs("brian2")
@pytest.mark.parametrize("graph", ["recurrent", "convolution", "late"], indirect=True)
def test_the_script_gives_the_same_output(program, samples, tmp_path, monkeypatch, capsys):
    path = tmp_path / "network.py"
    arrays = export_brian(program, path, samples=samples[:3], steps=7)
    assert sorted(tmp_path.iterdir()) == [arrays, path]
    assert "spikeport" not in "".join(line for line in path.read_text().splitlines() if "import" in line)
    np.save(tmp_path / "others.npy", samples[3:5])
    for arguments, x, steps in (([], samples[:3], 7), ([str(tmp_path / "others.npy"), "5"], samples[3:5], 5)):
        monkeypatch.setattr(sys, "argv", [str(path), *arguments])
        found = runpy.run_path(str(path), run_name="__main__")
        wanted, _ = run_reference(program, x, steps)
        np.testing.assert_array_equal(found["output"].reshape(wanted.shape), wanted)
        if wanted.ndim == 3:
            decided = program.real_output(wanted)[-1].argmax(1).tolist()
            assert f"decided for {decided}" in capsys.readouterr().out


@pytest.mark.parametrize("graph", ["binary"], indirect=True)
def test_nothing_is_written_where_something_is_wrong(program, samples, tmp_path):
    with pytest.raises(ShapeError):
        export_brian(program, tmp_path / "a.py", samples=samples[:, 1:])
    with pytest.raises(SpikeportError, match=r"ends in \.py"):
        export_brian(program, tmp_path / "a.npz")
    with pytest.raises(SpikeportError, match="cannot write"):
        export_brian(program, tmp_path / "no" / "a.py")
    assert not list(tmp_path.iterdir())
