"""Surrogate-gradient training on Lightning Fabric: losses, the loop, checkpoints, and settings that are checked."""
