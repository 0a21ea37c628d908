"""What one unit or synapse does in time."""
