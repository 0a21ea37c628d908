"""The spikeport command."""
