"""Keyed randomness: what is drawn depends on what it is for, never on when it was asked.

A generator is keyed by (seed, what for, sample id, epoch, ...), so that a step's noise does not
change with packing, with the number of ranks, or with where a run was interrupted.
"""

import hashlib

import numpy as np


def generator(seed: int, *key: object) -> np.random.Generator:
    """A counter-based (Philox) generator for one purpose; the same key gives the same numbers."""
    name = "\x1f".join([str(seed), *map(str, key)]).encode()
    words = np.frombuffer(hashlib.sha256(name).digest()[:16], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=words))


def uniform(seed: int, *key: object) -> float:
    """One number in [0, 1) for a key."""
    return float(generator(seed, *key).random())
