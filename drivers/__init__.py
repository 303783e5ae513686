"""Storage drivers and media robots, each usable on its own, without the daemon."""
