"""Deciding early: confidence, exit rules and the engine that runs them."""
