"""Pixels to latents and back: causal, streaming, exactly tiled."""
