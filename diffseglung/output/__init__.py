"""What a run leaves on disk: label map, statistics, picture, provenance."""
