"""Networks of lava-dl come in with Lava's arithmetic."""

import contextlib

import numpy as np
import pytest

try:
    import h5py
except ImportError:  # then the mark skips
    h5py = None

from spikeport import CorruptFileError, SpikeportError, UnsupportedError
from spikeport.hardware.lava_dl import import_lava_dl
from spikeport.hardware.reference import decay, run_reference

pytestmark = pytest.mark.needs("nir")


def write(path, layers):
    with h5py.File(path, "w") as file:
        for index, layer in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            for key, value in layer.items():
                if isinstance(value, dict):
                    for name, item in value.items():
                        group[f"{key}/{name}"] = item
                else:
                    group[key] = value
    return path


def dense(rng, inputs, units, **more):
    neuron = {"type": "CUBA", "vThMant": 20, "iDecay": 900, "vDecay": 300, "refDelay": 1, "gradedSpike": False}
    neuron |= more.pop("neuron", {})
    weight = rng.integers(-60, 60, (units, inputs)).astype(np.float32) * 2
    return {"shape": [units], "type": "dense", "neuron": neuron, "weight": weight, **more}


def lava(layers, x, steps):
    """Lava's bit-accurate LIF, in its own terms: du, dv, 24 bits."""
    encoder, spikes = np.zeros_like(x), []
    states = [[np.zeros((len(x), layer["weight"].shape[0]), np.int64)] * 2 for layer in layers]
    for _ in range(steps):
        encoder = encoder + x
        s = encoder >= 255
        encoder = np.where(s, 0, encoder)
        for layer, state in zip(layers, states, strict=True):
            du, dv = layer["neuron"]["iDecay"] - 1, layer["neuron"]["vDecay"]
            u = decay(state[0], np.array(4096 - (du + 1))) + ((s @ layer["weight"].T.astype(np.int64)) << 6)
            v = decay(state[1], np.array(4096 - dv)) + u + (np.asarray(layer.get("bias", 0), np.int64) << 6)
            assert np.abs(u).max() < 1 << 23
            assert np.abs(v).max() < 1 << 23
            s = v > layer["neuron"]["vThMant"] << 6
            state[:] = u, np.where(s, 0, v)
        spikes.append(s)
    return np.stack(spikes)


def test_it_computes_what_lava_computes(tmp_path):
    rng = np.random.default_rng(3)
    layers = [
        dense(rng, 12, 9, bias=rng.integers(-5, 5, 9)),
        dense(rng, 9, 5, neuron={"iDecay": 4096}),
        dense(rng, 5, 4, neuron={"vDecay": 0}),
    ]
    program = import_lava_dl(write(tmp_path / "a.net", [layers[0], {"type": "flatten"}, *layers[1:]]))
    x = rng.integers(0, 256, (6, 12))
    found, _ = run_reference(program, x.astype(np.float32), 20)
    wanted = lava(layers, x, 20)
    assert 0.05 < wanted.mean() < 0.95
    np.testing.assert_array_equal(found, wanted)


def test_it_decides_as_its_makers_measured(data_dir):
    program = import_lava_dl(data_dir / "models" / "lavadl_netx_mnist.net")
    with np.load(data_dir / "mnist.npz") as data:
        x, y = data["x_test"][:1000].reshape(1000, -1), data["y_test"][:1000]
    output, _ = run_reference(program, x.astype(np.float32), 23)
    assert abs((output.sum(0).argmax(1) == y).mean() - 0.953) <= 0.003


def test_all_that_is_not_covered_is_named_at_once(tmp_path):
    rng = np.random.default_rng(3)
    layers = [
        dense(rng, 3, 2, neuron={"refDelay": 2, "gradedSpike": True}),
        {"type": "conv"},
        dense(rng, 2, 2, delay=np.ones(2)),
        dense(rng, 2, 2, neuron={"type": "SDNN"}),
        dense(rng, 2, 2) | {"weight": np.ones((2, 2))},
    ]
    with pytest.raises(UnsupportedError) as caught:
        import_lava_dl(write(tmp_path / "a.net", layers))
    assert [problem.split(" (")[0] for problem in caught.value.problems] == [f"layer {i}" for i in range(5)]
    assert "graded spikes, a refractory delay above 1" in str(caught.value)


def test_a_current_that_lava_would_wrap_is_refused(tmp_path):
    layer = dense(np.random.default_rng(3), 900, 2, neuron={"iDecay": 1})
    with pytest.raises(SpikeportError, match="24 bits"):
        import_lava_dl(write(tmp_path / "a.net", [layer]))


def test_damaged_files_are_refused(tmp_path):
    rng = np.random.default_rng(3)
    good = write(tmp_path / "a.net", [dense(rng, 3, 2)])
    content = good.read_bytes()
    for index in range(60):
        broken = bytearray(content)
        for place in rng.integers(0, len(content), 12):
            broken[place] = rng.integers(0, 256)
        path = tmp_path / f"{index}.net"
        path.write_bytes(broken if index % 2 else content[: rng.integers(0, len(content))])
        with contextlib.suppress(SpikeportError):
            import_lava_dl(path)
    with pytest.raises(SpikeportError, match="is no file"):
        import_lava_dl(tmp_path)
    with h5py.File(tmp_path / "link.net", "w") as file:
        file["layer"] = h5py.ExternalLink("a.net", "/layer")
    with pytest.raises(CorruptFileError, match="links to another place"):
        import_lava_dl(tmp_path / "link.net")
    with h5py.File(tmp_path / "huge.net", "w") as file:
        file.create_dataset("layer", (1 << 40,), "f8", chunks=(1 << 10,))
    with pytest.raises(CorruptFileError, match="are not read"):
        import_lava_dl(tmp_path / "huge.net")
