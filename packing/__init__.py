"""Latents of every shape to packed batches."""
