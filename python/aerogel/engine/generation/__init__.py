"""Texts that a model writes: prompts, the loop over tokens, and what stands around it."""
