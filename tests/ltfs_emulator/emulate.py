"""Stands in for mkltfs, ltfs and ltfsck: ``python emulate.py FOLDER mkltfs -e file -d FOLDER -s ABC123``,
where the first folder is that of mfusepy.

See README.md for the contract that it keeps and the switches that it has.
"""

from __future__ import annotations

import os
import sys
import time

from medium import Medium, say


def mkltfs(words: list[str]) -> int:
    """0 formatted; 16 wrong arguments or formatted already; 1 when wiped, as the real one."""
    options = _options(words, flags="fwq")
    medium = Medium(options["d"])
    if medium.traps.get("flood"):
        _flood()
    if not medium.loaded:
        say("10004E", f"Cannot open device '{options['d']}'.")
        return 8
    if "w" in options:
        medium.erase()
        say("15040I", "Medium unformatted successfully.")
        return 1
    serial = options.get("s", "")
    if len(serial) != 6 or not all(c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" for c in serial):
        say("15030E", f"Tape serial must be {6} characters.")
        return 16
    if medium.label() is not None and "f" not in options:
        say("15047E", "Medium is already formatted (0).")
        say("15048I", "Need to specify -f or --force option to format this medium.")
        return 16
    if medium.traps.get("protected"):
        say("11095E", "Cannot format: the medium is write protected.")
        return 8
    # What was there is gone, be it somebody's: mkltfs does not look.
    medium.format(serial, options.get("n", ""))
    say("15013I", f"Volume UUID is: {medium.label().uuid}.")
    say("15024I", "Medium formatted successfully.")
    return 0


def ltfsck(words: list[str]) -> int:
    """1 for a healthy or mended volume, 4 when it could not be mended."""
    options = _options(words, flags="fzlrnq")
    medium = Medium(options[""])
    if not medium.loaded:
        say("10004E", f"Cannot open device '{options['']}'.")
        return 8
    say("16014I", f"Checking LTFS file system on '{options['']}'.")
    if medium.label() is None:
        say("17168E", "Cannot read volume: medium is not partitioned.")
        say("16080E", "Cannot check volume (8).")
        return 4
    if "l" in options:
        for _, generation, comment in medium.indexes():
            print(f"{generation:10}: 2026-01-01 00:00:00.000000000 UTC")
            print(f"           {comment or 'No commit message'}")
        return 0
    if medium.traps.get("beyond_repair"):
        say("16021E", "Volume is inconsistent and was not corrected.")
        return 4
    if medium.traps.get("end_lost"):
        if "z" not in options:
            say("17146E", "EOD of DP(1) is missing. A deep recovery operation is required.")
            say("17148E", "Use ltfsck with the --deep-recovery option.")
            say("16021E", "Volume is inconsistent and was not corrected.")
            return 4
        say("17139I", "Starting a deep recovery operation: missing EOD.")
        if not medium.memory_is_known():
            say("12062W", "Cannot get VCI data: unexpected Application Specific Info signature.")
            say("17144E", "The MAM of IP is not usable.")
            say("16091E", "Cannot recover missing EOD (-1036).")
            return 4
        medium.cut_behind_last_index()
        medium.set_traps(end_lost=False)
    if not medium.index("0_5_I"):
        say("11232I", "Restoring the index of the index partition.")
        medium.write_index_partition(*medium.last_index()[1:])
    if medium.extra_blocks():
        medium.mend(lost_and_found="f" in options)
        say("11230I", "Writing index(es) to restore consistency.")
    if "r" in options:
        if not medium.roll_back(int(options["g"])):
            return 4
        say("16086I", "Volume is rolled back successfully.")
        return 0
    say("11034I", "Volume unmounted successfully.")
    say("16022I", "Volume is consistent.")
    return 1


def ltfs(words: list[str]) -> int:
    """1 when the volume cannot be mounted, else 0, whatever happens afterwards."""
    mountpoint, mount_options = _mount_options(words)
    device = mount_options.get("devname", "")
    medium = Medium(device)
    if medium.traps.get("flood"):
        _flood()
    if medium.traps.get("never_mounts"):
        time.sleep(3600)
    say("14000I", "LTFS starting, LTFS version 2.4.8.4 (Prelim), log level 2.", thread=True)
    say("30061E", "Cannot unlock medium: unit not ready.", thread=True)
    trouble = _trouble(medium, device, mountpoint)
    if trouble:
        for code, said in trouble:
            say(code, said, thread=True)
        return 1
    from filesystem import serve

    return serve(medium, mountpoint)


def _trouble(medium: Medium, device: str, mountpoint: str) -> list[tuple[str, str]]:
    failed = ("14013E", "Cannot mount the volume.")
    if not medium.loaded:
        return [("10004E", f"Cannot open device '{device}'."), failed]
    if not os.path.isdir(mountpoint):
        return [("14094E", "Cannot open mountpoint.")]
    if medium.blank:
        return [("17168E", "Cannot read volume: medium is not partitioned."), failed]
    if damaged := medium.label_trouble():
        return [*damaged, ("11009E", "Cannot read volume: failed to read partition labels."), failed]
    unclean = ("11027E", "Cannot mount volume: medium consistency check failed.")
    if medium.traps.get("end_lost"):
        return [
            ("17146E", "EOD of DP(1) is missing. A deep recovery operation is required."),
            ("17148E", "Use ltfsck with the --deep-recovery option."),
            unclean,
            failed,
        ]
    if not medium.index("0_5_I"):
        return [
            ("17016E", "Cannot parse index direct from medium (-5000)."),
            ("11194W", "Cannot read index: failed to read and parse XML data (-5000)."),
            ("11024E", "Cannot mount volume: read index failed on the index partition."),
            failed,
        ]
    if medium.extra_blocks() or medium.traps.get("beyond_repair"):
        return [
            ("11220E", "Medium check failed: extra blocks detected. Run ltfsck."),
            unclean,
            failed,
        ]
    return []


def _flood() -> None:
    while True:
        say("12049E", "Cannot read: medium not present.")


def _options(words: list[str], flags: str) -> dict[str, str]:
    """``-x value`` and flags; what is left over is under the empty name."""
    found, rest = {}, iter(words)
    for word in rest:
        if word.startswith("-") and word[1:] in tuple(flags):
            found[word[1:]] = ""
        elif word.startswith("-"):
            found[word[1:]] = next(rest, "")
        else:
            found[""] = word
    return found


def _mount_options(words: list[str]) -> tuple[str, dict[str, str]]:
    options, mountpoint, rest = {}, "", iter(words)
    for word in rest:
        if word == "-o":
            for each in next(rest).split(","):
                name, _, value = each.partition("=")
                options[name] = value
        elif not word.startswith("-"):
            mountpoint = word
    return mountpoint, options


if __name__ == "__main__":
    libraries, tool, *rest = sys.argv[1:]
    sys.path.append(libraries)
    sys.exit({"mkltfs": mkltfs, "ltfs": ltfs, "ltfsck": ltfsck}[tool](rest))
