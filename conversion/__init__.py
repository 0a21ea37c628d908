"""From a trained artificial network to a spiking one."""
