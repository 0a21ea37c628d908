"""spikeport: from a trained artificial network to a spiking one that decides early.

The public names are loaded on first use, so that ``import spikeport`` stays cheap.

>>> import spikeport
>>> issubclass(spikeport.ShapeError, spikeport.SpikeportError)
True
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names for type checkers; a test compares them with the table
    from ._check import (
        AccuracyGateMissed,
        BackendUnavailable,
        CorruptFileError,
        RangeError,
        ShapeError,
        SpikeportError,
        UnsupportedError,
        WorkerCrashed,
        WorkerTimeout,
    )
    from .conversion.from_snntorch import from_snntorch
    from .conversion.methods import Auto, Recipe, parse_method
    from .conversion.module_import import import_module
    from .conversion.onnx_import import import_onnx
    from .conversion.open import open_model
    from .data import load_data
    from .evaluation.convert import convert_network
    from .evaluation.evaluate import evaluate_network
    from .evaluation.finetune import Finetuning, finetune_network
    from .evaluation.search import Search, search_network
    from .inference import DynamicConfidence, FixedSteps, run_with_exit
    from .networks.engine import Engine
    from .networks.file import load_graph, save_graph
    from .networks.graph import Graph
    from .report import render_report

__version__ = "0.1.0"
__all__ = [
    "AccuracyGateMissed",
    "Auto",
    "BackendUnavailable",
    "CorruptFileError",
    "DynamicConfidence",
    "Engine",
    "Finetuning",
    "FixedSteps",
    "Graph",
    "RangeError",
    "Recipe",
    "Search",
    "ShapeError",
    "SpikeportError",
    "UnsupportedError",
    "WorkerCrashed",
    "WorkerTimeout",
    "__version__",
    "convert_network",
    "evaluate_network",
    "finetune_network",
    "from_snntorch",
    "import_module",
    "import_onnx",
    "load_data",
    "load_graph",
    "open_model",
    "parse_method",
    "render_report",
    "run_with_exit",
    "save_graph",
    "search_network",
]

_HOME = {  # public name -> the module that it comes from
    "AccuracyGateMissed": "_check",
    "Auto": "conversion.methods",
    "BackendUnavailable": "_check",
    "CorruptFileError": "_check",
    "DynamicConfidence": "inference",
    "Engine": "networks.engine",
    "Finetuning": "evaluation.finetune",
    "FixedSteps": "inference",
    "Graph": "networks.graph",
    "RangeError": "_check",
    "Recipe": "conversion.methods",
    "Search": "evaluation.search",
    "ShapeError": "_check",
    "SpikeportError": "_check",
    "UnsupportedError": "_check",
    "WorkerCrashed": "_check",
    "WorkerTimeout": "_check",
    "convert_network": "evaluation.convert",
    "evaluate_network": "evaluation.evaluate",
    "finetune_network": "evaluation.finetune",
    "from_snntorch": "conversion.from_snntorch",
    "import_module": "conversion.module_import",
    "import_onnx": "conversion.onnx_import",
    "load_data": "data",
    "load_graph": "networks.file",
    "open_model": "conversion.open",
    "parse_method": "conversion.methods",
    "render_report": "report",
    "run_with_exit": "inference",
    "save_graph": "networks.file",
    "search_network": "evaluation.search",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(sorted(_HOME))}.")
    value: object = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
