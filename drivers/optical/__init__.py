"""Optical discs: file-sets with a DICOMDIR, burnt with xorriso and read back."""
