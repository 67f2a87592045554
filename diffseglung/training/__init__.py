"""From cases to batches: patches on disk, synthetic scenes on the fly, samples on the way; and stage 3, on scenes."""
