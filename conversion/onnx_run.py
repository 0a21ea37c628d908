"""Running the source itself, for comparison: ONNX Runtime where it is installed, else the reference of ``onnx``."""

from collections.abc import Callable
from functools import cached_property

import numpy as np

from .._check import ShapeError, SpikeportError
from .onnx_file import OnnxModel

BATCH = 256  # samples at once where the file leaves the number open
QUIET = 4  # ONNX Runtime's level "fatal": what it has to say comes as an exception


class OnnxRunner:
    """x (batch, *features) -> the output of the file's network."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Run in the batch size that the file fixes; the last batch is filled up and cut again.

        Raises ShapeError for samples of another shape, SpikeportError where the network cannot be run.
        """
        shape, batch = self._model.shape, self._model.batch or BATCH
        if x.shape[1:] != shape or not len(x):
            raise ShapeError(f"the network takes samples of shape {shape}, at least one; {x.shape} came")
        x = np.ascontiguousarray(x, self._model.dtype)
        try:
            outputs = [self._batch(x[first : first + batch]) for first in range(0, len(x), batch)]
            return np.concatenate(outputs)
        except SpikeportError:
            raise
        except Exception as error:  # noqa: BLE001 - ONNX Runtime raises types of its own, by their dozen
            raise SpikeportError(f"the source network cannot be run: {type(error).__name__}: {error}") from None

    def _batch(self, x: np.ndarray) -> np.ndarray:
        missing = (self._model.batch or len(x)) - len(x)
        whole = np.concatenate([x, np.repeat(x[-1:], missing, 0)]) if missing else x
        output = np.asarray(self._run(whole))
        if output.ndim == 0 or len(output) != len(whole):
            raise ShapeError(f"the source network turns {len(whole)} samples into an output of shape {output.shape}")
        return output[: len(x)]

    @cached_property
    def _run(self) -> Callable[[np.ndarray], np.ndarray]:
        return _onnxruntime(self._model) or _reference(self._model)


def _onnxruntime(model: OnnxModel) -> Callable[[np.ndarray], np.ndarray] | None:
    """A function of one batch, or None where ONNX Runtime is absent or too old for this model."""
    try:
        import onnxruntime
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = QUIET
    try:
        session = onnxruntime.InferenceSession(model.content, options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - an opset newer than this ONNX Runtime, say: the reference can still run it
        return None
    return lambda x: np.asarray(next(iter(session.run([model.output], {model.input: x}))))


def _reference(model: OnnxModel) -> Callable[[np.ndarray], np.ndarray]:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(model.proto)
    return lambda x: np.asarray(next(iter(evaluator.run([model.output], {model.input: x}))))
