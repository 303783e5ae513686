"""The daemon: catalog, DICOM endpoints, ingest, migration, recall, audit."""
