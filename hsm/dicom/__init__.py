"""What the archive says and understands in DICOM: the services, and values to and from datasets."""
