"""The table of ONNX operators that are taken over, and what to do about those that are not."""

from collections.abc import Callable, Mapping
from typing import Any

from . import onnx_elementwise as elementwise
from . import onnx_layout as layout
from . import onnx_values as values
from . import onnx_windows as windows
from .onnx_call import Call

Handler = Callable[[Call], Any]  # an item, or a list of them


HANDLERS: Mapping[str, Handler] = {
    "Add": elementwise.add,
    "Attention": values.attention,
    "AveragePool": windows.average_pool,
    "BatchNormalization": elementwise.batch_norm,
    "Cast": elementwise.cast,
    "CastLike": elementwise.cast_like,
    "Clip": elementwise.clip,
    "Concat": layout.concat,
    "Conv": windows.convolution,
    "Div": elementwise.divide,
    "Dropout": elementwise.dropout,
    "Erf": values.erf,
    "Expand": layout.expand,
    "Flatten": layout.flatten,
    "Gather": values.gather,
    "Gelu": values.gelu,
    "Gemm": layout.gemm,
    "GlobalAveragePool": windows.global_average_pool,
    "GlobalMaxPool": windows.global_max_pool,
    "HardSigmoid": values.hard_sigmoid,
    "HardSwish": values.hard_swish,
    "Identity": elementwise.identity,
    "LayerNormalization": values.layer_norm,
    "LeakyRelu": elementwise.leaky_relu,
    "MatMul": layout.matmul,
    "Max": elementwise.maximum,
    "MaxPool": windows.max_pool,
    "Min": elementwise.minimum,
    "Mul": elementwise.multiply,
    "Neg": elementwise.negate,
    "Pad": layout.pad,
    "RMSNormalization": values.rms_norm,
    "ReduceMax": windows.reduce_max,
    "ReduceMean": windows.reduce_mean,
    "ReduceSum": windows.reduce_sum,
    "Relu": elementwise.relu,
    "Reshape": layout.reshape,
    "Shape": layout.shape,
    "Sigmoid": values.sigmoid,
    "Size": layout.size,
    "Slice": layout.slice_,
    "Softmax": values.softmax,
    "Split": layout.split,
    "Squeeze": layout.squeeze,
    "Sub": elementwise.subtract,
    "Sum": elementwise.add,
    "Swish": values.swish,
    "Tanh": values.tanh,
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
    **dict.fromkeys(("Celu", "Elu", "Exp", "Log", "Mish", "PRelu"), _RETRAIN),
    **dict.fromkeys(("Pow", "Selu", "Shrink", "Softplus", "Softsign", "Sqrt"), _RETRAIN),
    **dict.fromkeys(("ThresholdedRelu",), _RETRAIN),
    **dict.fromkeys(("ArgMax", "Hardmax", "LogSoftmax", "TopK"), _LAST),
    **dict.fromkeys(("If", "Loop", "Scan", "SequenceMap"), _PLAIN),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _SEQUENCE),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LRN"), _NORM),
    **dict.fromkeys(("LpNormalization", "MeanVarianceNormalization"), _NORM),
    **dict.fromkeys(("ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger"), _FLOAT),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QuantizeLinear"), _FLOAT),
    **dict.fromkeys(("ConvTranspose", "DepthToSpace", "LpPool", "MaxUnpool", "Resize"), _STRIDE),
    **dict.fromkeys(("SpaceToDepth", "Upsample"), _STRIDE),
}


def remedy(operator: str, domain: str) -> str:
    """What a person can do about an operator that is not taken over.

    >>> remedy("Elu", "")
    'retrain with ReLU, which a firing rate can follow'
    """
    if domain:
        return f"an operator of the foreign domain {domain}; export with standard operators only"
    return _REMEDIES.get(operator, "no spiking form is known; replace it in the source network")
