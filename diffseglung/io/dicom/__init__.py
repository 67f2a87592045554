"""DICOM: what lies in a folder, which series is taken, its grid, pixels and headers, and why one is refused."""
