"""Packed batches to a denoiser, a denoiser to latents."""
