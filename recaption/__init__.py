"""Clips to captions, short prompts to the captions' style, text to embeddings."""
