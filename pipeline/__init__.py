"""Raw video to the clips table: probe, shots, scores, on Ray Data."""
