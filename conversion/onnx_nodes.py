"""The table of ONNX operators that are taken over, and what to do about those that are not."""

from collections.abc import Callable, Mapping

import numpy as np

from . import onnx_elementwise as elementwise
from . import onnx_layout as layout
from . import onnx_windows as windows
from .onnx_builder import Value
from .onnx_call import Call

Handler = Callable[[Call], Value | np.ndarray | list[Value]]


def shape(call: Call) -> np.ndarray:
    """The axes of a value, the batch with its stand-in."""
    full = np.array((call.builder.batch, *call.value().shape), np.int64)
    end = call.attributes.get("end")
    return full[call.integer("start", 0) : None if end is None else call.integer("end", 0)]


def size(call: Call) -> np.ndarray:
    """The number of elements of a value."""
    return np.array(np.prod((call.builder.batch, *call.value().shape)), np.int64)


HANDLERS: Mapping[str, Handler] = {
    "Add": elementwise.add,
    "AveragePool": windows.average_pool,
    "BatchNormalization": elementwise.batch_norm,
    "Cast": elementwise.cast,
    "CastLike": elementwise.cast_like,
    "Clip": elementwise.clip,
    "Concat": layout.concat,
    "Conv": windows.convolution,
    "Div": elementwise.divide,
    "Dropout": elementwise.dropout,
    "Expand": layout.expand,
    "Flatten": layout.flatten,
    "Gemm": layout.gemm,
    "GlobalAveragePool": windows.global_average_pool,
    "GlobalMaxPool": windows.global_max_pool,
    "Identity": elementwise.identity,
    "LeakyRelu": elementwise.leaky_relu,
    "MatMul": layout.matmul,
    "Max": elementwise.maximum,
    "MaxPool": windows.max_pool,
    "Min": elementwise.minimum,
    "Mul": elementwise.multiply,
    "Neg": elementwise.negate,
    "Pad": layout.pad,
    "ReduceMax": windows.reduce_max,
    "ReduceMean": windows.reduce_mean,
    "ReduceSum": windows.reduce_sum,
    "Relu": elementwise.relu,
    "Reshape": layout.reshape,
    "Shape": shape,
    "Size": size,
    "Slice": layout.slice_,
    "Split": layout.split,
    "Squeeze": layout.squeeze,
    "Sub": elementwise.subtract,
    "Sum": elementwise.add,
    "Transpose": layout.transpose,
    "Unsqueeze": layout.unsqueeze,
}

_RETRAIN = "retrain with ReLU, which a firing rate can follow"
_LAST = "it can only be the last operator; retrain without it inside"
_PLAIN = "control flow that depends on data has no spiking form; export a plain graph"
_SEQUENCE = "retrain with convolutions, or train a spiking network directly"
_NORM = "retrain with BatchNormalization, which folds into the weights"
_FLOAT = "export the float model; quantise after the conversion"
_STRIDE = "use strided convolution or pooling instead"
_REMEDIES = {
    **dict.fromkeys(
        ("Celu", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Log", "Mish", "PRelu"), _RETRAIN
    ),
    **dict.fromkeys(("Pow", "Selu", "Shrink", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh"), _RETRAIN),
    **dict.fromkeys(("ThresholdedRelu",), _RETRAIN),
    **dict.fromkeys(("ArgMax", "Hardmax", "LogSoftmax", "Softmax", "TopK"), _LAST),
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), _PLAIN),
    **dict.fromkeys(("Attention", "GRU", "LSTM", "RNN"), _SEQUENCE),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LRN", "LayerNormalization"), _NORM),
    **dict.fromkeys(("LpNormalization", "MeanVarianceNormalization", "RMSNormalization"), _NORM),
    **dict.fromkeys(("ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"), _FLOAT),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QuantizeLinear"), _FLOAT),
    **dict.fromkeys(("ConvTranspose", "DepthToSpace", "LpPool", "MaxUnpool", "Resize"), _STRIDE),
    **dict.fromkeys(("SpaceToDepth", "Upsample"), _STRIDE),
}


def remedy(operator: str, domain: str) -> str:
    """What a person can do about an operator that is not taken over.

    >>> remedy("Gelu", "")
    'retrain with ReLU, which a firing rate can follow'
    """
    if domain:
        return f"an operator of the foreign domain {domain}; export with standard operators only"
    return _REMEDIES.get(operator, "no spiking form is known; replace it in the source network")
