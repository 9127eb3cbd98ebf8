"""Slow, obvious NumPy: what the engine must agree with."""
