"""Stage 2: projection heads and contrastive losses between the network's features and the teacher."""
