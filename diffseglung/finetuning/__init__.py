"""Stage 3: the network learns to label tissue on synthetic lesions."""
