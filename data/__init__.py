"""Data sets, their preprocessing and how they are split."""
