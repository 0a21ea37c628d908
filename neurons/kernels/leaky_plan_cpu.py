"""What the leaky integrate-and-fire kernels on the CPU share: blocks of features, their buffers, and ``factors``."""

__all__ = ["BLOCK", "RATIONAL", "leaky_tasks"]

BLOCK = 2048  # features a task: its buffers lie in the second-level cache, and rows are long enough to be fetched ahead

RATIONAL = (0, 1, 3, 5)  # the surrogates' formulas that need no exponential


def leaky_tasks(batch: int, features: int) -> int:
    """How many tasks the kernels have."""
    return batch * ((features + BLOCK - 1) // BLOCK)


# What ``factors`` holds, float32.  TIE: the spike at u = threshold; then 1 for the reset in use (now, or a step late);
# ATTACHED: 1 if gradient flows through the spike that resets; the surrogate's coefficients.
TIE, SUBTRACT, ZERO_NOW, LATE_SUBTRACT, LATE_ZERO, ATTACHED, HEIGHT, SHARPNESS = range(8)

# Places of the buffers of a block, in features
B, THETA, V, R, NOW, LATE, ROWS = (BLOCK * place for place in range(7))
