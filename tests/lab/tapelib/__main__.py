"""``python3 -S -m tapelib --media DIR [--config FILE] [--panel SOCKET] [--log FILE]``

Needs root and the modules target_core_user and tcm_loop. Returns when the devices are plugged in, and
serves them until the machine goes down.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
from pathlib import Path

from tapelib.library import Configuration, Library
from tapelib.panel import Panel
from tapelib.tcmu import NEXUS, PORT, Ring


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tapelib", description="A SCSI tape library for TCMU.")
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--panel", type=Path, default=Path("/run/tapelib.panel"))
    parser.add_argument("--log", type=Path, default=Path("/run/tapelib.log"))
    return parser.parse_args()


def _serve(rings: list[Ring], panel: Panel, door: socket.socket) -> None:
    by_descriptor = {ring.descriptor: ring for ring in rings}
    poll = select.poll()
    for descriptor in (*by_descriptor, door.fileno()):
        poll.register(descriptor, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor in by_descriptor:
                by_descriptor[descriptor].serve()
                continue
            visitor, _ = door.accept()
            with visitor, visitor.makefile("rw") as line:
                line.write(panel.answer(line.readline()) + "\n")
                line.flush()


def main() -> None:
    arguments = _arguments()
    configuration = Configuration.read(arguments.config) if arguments.config else Configuration()
    library = Library(arguments.media.resolve(), configuration)
    PORT.mkdir(parents=True)
    (PORT / "nexus").write_text(NEXUS)
    rings = [Ring(name, device) for name, device in library.devices.items()]
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(arguments.panel))
    door.listen()
    plugged, plug = os.pipe()
    if os.fork():  # the caller waits until the devices are there
        os.close(plug)
        if os.read(plugged, 1) != b"1":
            sys.exit(f"tapelib: the devices could not be plugged in; see {arguments.log}")
        return
    os.setsid()
    log = os.open(arguments.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    if not os.fork():  # plugging in waits for answers to the kernel's probes: a helper does it while we serve
        for at, ring in enumerate(rings):
            ring.plug(at)
        os.write(plug, b"1")
        os._exit(0)
    os.close(plug)
    _serve(rings, Panel(library), door)


main()
