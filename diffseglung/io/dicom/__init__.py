"""DICOM: find, choose, check and read a CT series."""
