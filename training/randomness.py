"""Seeds, the state of every random generator, and deterministic mode."""

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["deterministic", "random_state", "restore_random_state", "seed_everything"]


def seed_everything(seed: int, rank: int = 0) -> None:
    """Seed the generators of Python, NumPy and torch; each process (rank) gets a stream of its own."""
    python, numpy, torch_cpu = np.random.SeedSequence([seed, rank]).generate_state(3)
    random.seed(int(python))
    np.random.seed(int(numpy))  # noqa: NPY002 - the user's code may draw from it
    torch.manual_seed(int(torch_cpu))


def random_state() -> dict[str, Any]:
    """The state of all generators of this process, for ``save_checkpoint``."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "python": {"version": version, "words": torch.tensor(words, dtype=torch.int64), "gauss": gauss},
        "numpy": {
            "name": name,
            "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
            "position": position,
            "has_gauss": has_gauss,
            "cached": cached,
        },
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put all generators of this process back to what ``random_state`` returned."""
    python, numpy = state["python"], state["numpy"]
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    keys = numpy["keys"].numpy().astype(np.uint32)
    np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["cached"]))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Let torch use deterministic algorithms only (an operation that has none raises), and undo that at the end."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
