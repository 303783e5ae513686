"""``python -m cli`` is ``hsm``."""

from cli.main import main

main()
