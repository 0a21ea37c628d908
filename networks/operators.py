"""The closed set of operators a Graph is made of: one table, read by the file format, the checks and the engines.

A new operator is one entry of ``OPERATORS``: its fields, how many inputs it takes, its shape rule and its reference
function (or scan, when it has memory).  A backend that lacks an operator refuses it by its name in this table.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from . import reference, shape_rules, values
from .shape_rules import Shape

ShapeRule = Callable[[Mapping[str, Any], Mapping[str, np.ndarray], Sequence[Shape]], Shape]
Function = Callable[[Mapping[str, Any], Mapping[str, Tensor], Sequence[Tensor]], Tensor]

REQUIRED = object()


@dataclass(frozen=True)
class Field:
    """An attribute of an operator: its type, default and the values that make sense."""

    kind: type  # int, float, str, or tuple (of ints)
    default: Any = REQUIRED
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False  # None is allowed
    lengths: tuple[int, ...] = ()  # how many values a tuple may have; () = any number


@dataclass(frozen=True)
class Operator:
    """One kind of node.  ``arrays`` maps the name of an array to whether it is required."""

    shape: ShapeRule
    function: Function | None = None
    inputs: tuple[int, int] = (1, 1)
    fields: Mapping[str, Field] = field(default_factory=dict)
    arrays: Mapping[str, bool] = field(default_factory=dict)
    memory: bool = False
    synapse: bool = False  # its weights are synapses: an incoming spike costs one accumulate for each that it reaches


_MANY = 1_000_000
_SIZE = 1 << 28
_SPAN = 1 << 16  # of a window
_WEIGHTS = {"weight": True, "bias": False}
_POOL = {
    "kernel": Field(tuple, low=1, high=_SPAN, lengths=(1, 2)),
    "stride": Field(tuple, low=1, high=_SPAN, lengths=(1, 2)),
    "padding": Field(tuple, low=0, high=_SPAN, lengths=(1, 2)),
    "ceil_mode": Field(int, 0, low=0, high=1),
}
_NORM = {"axes": Field(int, 1, low=1, high=8), "epsilon": Field(float, 1e-5, low=0.0)}


def _convolution(axes: int) -> Operator:
    fields = {
        "stride": Field(tuple, low=1, high=_SPAN, lengths=(axes,)),
        "padding": Field(tuple, low=0, high=_SPAN, lengths=(axes,)),
        "dilation": Field(tuple, low=1, high=_SPAN, lengths=(axes,)),
        "groups": Field(int, 1, low=1, high=_SIZE),
    }
    return Operator(shape_rules.convolution, reference.convolution, fields=fields, arrays=_WEIGHTS, synapse=True)


OPERATORS: Mapping[str, Operator] = {
    "input": Operator(shape_rules.input_shape, inputs=(0, 0), fields={"shape": Field(tuple, low=1, high=_SIZE)}),
    "linear": Operator(shape_rules.linear, reference.linear, arrays=_WEIGHTS, synapse=True),
    "conv1d": _convolution(1),
    "conv2d": _convolution(2),
    "sum_pool": Operator(shape_rules.pool, reference.sum_pool, fields=_POOL),
    "average_pool": Operator(
        shape_rules.pool,
        reference.average_pool,
        fields={**_POOL, "count_include_pad": Field(int, 1, low=0, high=1)},
    ),
    "max_pool": Operator(shape_rules.pool, reference.max_pool, fields=_POOL),
    "global_pool": Operator(
        shape_rules.global_pool,
        reference.global_pool,
        fields={"function": Field(str, "mean", choices=("mean", "sum", "max"))},
    ),
    "flatten": Operator(shape_rules.flatten, reference.flatten),
    "reshape": Operator(shape_rules.reshape, reference.reshape, fields={"shape": Field(tuple, low=1, high=_SIZE)}),
    "transpose": Operator(
        shape_rules.transpose, reference.transpose, fields={"permutation": Field(tuple, low=0, high=8)}
    ),
    "pad": Operator(
        shape_rules.pad,
        reference.pad,
        fields={
            "before": Field(tuple, low=0, high=_SIZE),
            "after": Field(tuple, low=0, high=_SIZE),
            "value": Field(float, 0.0),
        },
    ),
    "add": Operator(shape_rules.elementwise, reference.add, inputs=(2, _MANY)),
    "multiply": Operator(shape_rules.elementwise, reference.multiply, inputs=(2, 2)),
    "concat": Operator(
        shape_rules.concat, reference.concat, inputs=(1, _MANY), fields={"axis": Field(int, 0, low=0, high=8)}
    ),
    "scale": Operator(shape_rules.same, reference.scale, arrays={"factor": True, "shift": False}, synapse=True),
    "batch_norm": Operator(
        shape_rules.batch_norm,
        reference.batch_norm,
        fields={"epsilon": Field(float, 1e-5, low=0.0)},
        arrays={"mean": True, "variance": True, "weight": True, "bias": True},
    ),
    "activation": Operator(
        shape_rules.activation,
        reference.activation,
        fields={
            "function": Field(str, "relu", choices=("relu", "identity")),
            "maximum": Field(float, None, low=0.0, optional=True),
            "levels": Field(int, None, low=1, high=1 << 24, optional=True),
        },
        arrays={"ceiling": False, "bound": False},  # it falls to 0 above the bound
    ),
    "synaptic_filter": Operator(shape_rules.same, arrays={"alpha": True}, memory=True),
    "step_bias": Operator(shape_rules.step_bias, arrays={"values": True}, memory=True),
    "delay": Operator(shape_rules.same, fields={"steps": Field(int, low=1, high=4096)}, memory=True),
    "neuron": Operator(
        shape_rules.neuron,
        fields={
            "code": Field(str, choices=("binary", "signed", "graded", "differential")),
            "test": Field(str, choices=(">=", ">")),
            "reset": Field(str, choices=("subtract", "zero", "none")),
            "levels": Field(int, 1, low=1, high=1 << 24),
            "late": Field(int, 0, low=0, high=1),  # the reset comes in the next step, after the decay
            "line": Field(int, 0, low=0, high=1),  # differential: the value may be below 0
            "maximum": Field(float, None, low=0.0, optional=True),  # differential: the value is cut there
        },
        # no beta: no leak; no limit: any number of spikes
        arrays={"threshold": True, "initial": True, "bias": True, "beta": False, "limit": False},
        memory=True,
    ),
    "constant": Operator(values.constant_shape, values.constant, arrays={"value": True}),
    "slice": Operator(
        values.slice_shape,
        values.slice_axis,
        fields={
            "axis": Field(int, 0, low=0, high=8),
            "start": Field(int, 0, low=0, high=_SIZE),
            "stop": Field(int, low=1, high=_SIZE),
            "step": Field(int, 1, low=1, high=_SIZE),
        },
    ),
    "function": Operator(
        shape_rules.same, values.function, fields={"function": Field(str, choices=tuple(values.FUNCTIONS))}
    ),
    "softmax": Operator(values.softmax_shape, values.softmax, fields={"axis": Field(int, low=0, high=8)}),
    "layer_norm": Operator(values.norm_shape, values.layer_norm, fields=_NORM, arrays={"weight": False, "bias": False}),
    "rms_norm": Operator(values.norm_shape, values.rms_norm, fields=_NORM, arrays={"weight": False}),
    "matmul": Operator(values.matmul_shape, values.matmul, inputs=(2, 2)),
    "output": Operator(
        shape_rules.same,
        fields={
            "ramp": Field(int, 0, low=0, high=3),
            "decoded": Field(int, 0, low=0, high=1),  # it reads values, not what spikes add at each step
        },
        memory=True,
    ),
}
