"""One way in for every kind of network file, chosen by how the name ends."""

import re
from collections.abc import Sequence
from pathlib import Path

from .._check import SpikeportError
from .source import Source

FORMS = (
    "model.onnx; program.pt2 with --allow-code; "
    "or package.module:factory with --weights file.safetensors and --allow-code"
)
_FACTORY = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")
_REFUSED = {
    ".pt": "a pickle, which runs code when it is read and holds no network without its Python class",
    ".pth": "a pickle, which runs code when it is read and holds no network without its Python class",
    ".ckpt": "a pickle, which runs code when it is read and holds no network without its Python class",
    ".pkl": "a pickle, which runs code when it is read and holds no network without its Python class",
    ".safetensors": "weights without the network that they belong to",
}
_REMEDY = (
    "export the network with torch.onnx.export, or name its Python factory (package.module:factory) and its weights "
    "(--weights file.safetensors, written with safetensors.torch.save_model) with --allow-code"
)


def open_model(
    spec: str,
    *,
    features: Sequence[int] | None = None,
    weights: str | Path | None = None,
    allow_code: bool = False,
) -> Source:
    """Read the network that ``spec`` names: an ``.onnx`` or ``.pt2`` file, or ``package.module:factory``.

    features: the shape of one sample, which a factory needs, as its module does not tell.  weights: of a factory.
    Raises SpikeportError for another form, and what the front ends raise.
    """
    if is_factory(spec):
        if allow_code and features is None:
            raise SpikeportError(
                f"{spec} does not say what shape of input it takes; give --input-shape, such as 1,28,28"
            )
        return _factory(spec, weights, features or (), allow_code)
    if weights is not None:
        raise SpikeportError(
            f"--weights belongs to a factory (package.module:factory), but {spec} is none; leave it out."
        )
    suffix = Path(spec).suffix.lower()
    if suffix == ".onnx":
        from .onnx_import import import_onnx

        return import_onnx(spec)
    if suffix == ".pt2":
        from .program import import_program

        return import_program(spec, allow_code=allow_code)
    if suffix in _REFUSED:
        raise SpikeportError(f"{spec} is {_REFUSED[suffix]}; {_REMEDY}.")
    raise SpikeportError(f"{spec!r} names no network that can be read; give {FORMS}.")


def is_factory(spec: str) -> bool:
    """Whether ``spec`` has the form of a Python factory.

    >>> is_factory("zoo.models:small"), is_factory("small.onnx")
    (True, False)
    """
    return _FACTORY.fullmatch(spec) is not None


def _factory(spec: str, weights: str | Path | None, features: Sequence[int], allow_code: bool) -> Source:
    from .program import import_factory

    return import_factory(spec, weights, features, allow_code=allow_code)
