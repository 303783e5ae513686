"""HTTP on a unix socket: what the command line, a web page and a monitoring system speak to."""
