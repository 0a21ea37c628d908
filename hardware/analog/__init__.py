"""Weights as conductances: networks on simulated crossbars of memory devices.

device, device_file: what a memory device does.  crossbar, array: a layer's weights on arrays, and reading them.
mapping, cells, converters, wires: the physics, one step a file.  prices: what it costs.
"""
