"""Patient discs and sticks: studies as a file-set with a DICOMDIR, in a folder, an image or on a disc."""
