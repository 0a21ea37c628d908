"""Intel's Lava: the client of a worker process that runs integer networks in a Python 3.10 of its own."""

from .backend import LavaBackend, LavaSession
from .install import find_lava_python, install_lava
from .worker_process import Limits

__all__ = ["LavaBackend", "LavaSession", "Limits", "find_lava_python", "install_lava"]
