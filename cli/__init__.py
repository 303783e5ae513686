"""The command line: typer and rich over the daemon's control API."""
