"""The same neuron scans for different targets, one file each."""
