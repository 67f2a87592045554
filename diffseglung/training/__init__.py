"""Data for training: patches on disk, random scenes on the fly, sample pictures; and the objective of stage 3."""
