"""The list of synapses of a delayed layer makes the same network in Brian2: every spike arrives in the same step."""

import numpy as np
import pytest
import torch

from spikeport import neurons

pytestmark = pytest.mark.needs("brian2")


def test_a_delayed_layer_runs_the_same_in_brian2() -> None:
    import brian2

    brian2.prefs.codegen.target = "numpy"
    torch.manual_seed(0)
    steps, inputs, outputs = 25, 4, 3
    layer = neurons.LearnableDelays(inputs, outputs, 6).freeze()
    x = (torch.rand(steps, 1, inputs) < 0.3).float()
    wanted = layer(x)[0][:, 0].detach().numpy()

    dt = 1 * brian2.ms
    brian2.defaultclock.dt = dt
    when, which = np.nonzero(x[:, 0].numpy())
    source = brian2.SpikeGeneratorGroup(inputs, which, when * dt)
    target = brian2.NeuronGroup(outputs, "heard : 1")
    target.run_regularly("heard = 0", when="start")
    synapses = brian2.Synapses(source, target, "w : 1", on_pre="heard_post += w")
    found = layer.synapses()
    synapses.connect(i=found.source.numpy(), j=found.target.numpy())
    synapses.w = found.weight.numpy()
    synapses.delay = found.delay.numpy() * dt
    monitor = brian2.StateMonitor(target, "heard", record=True, when="end")
    brian2.Network(source, target, synapses, monitor).run(steps * dt)
    np.testing.assert_allclose(monitor.heard.T, wanted, rtol=1e-5, atol=1e-6)
