"""Which parameters of a network are weights: what decays, and what noise falls on."""

from torch import nn

__all__ = ["weights_of"]


def weights_of(network: nn.Module) -> list[nn.Parameter]:
    """The trained parameters of two axes or more that no neuron or synapse holds as a value of its own.

    Decays, thresholds and delays of (channels, 1, 1) or (outputs, inputs) have axes as weights have, and are none.
    """
    values = {
        id(parameter)
        for module in network.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if name in getattr(module, "held", ())
    }
    return [
        parameter
        for parameter in network.parameters()
        if parameter.requires_grad
        and parameter.ndim > 1
        and parameter.is_floating_point()
        and id(parameter) not in values
    ]
