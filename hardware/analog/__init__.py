"""Weights as conductances: networks on simulated crossbars of memory devices."""
