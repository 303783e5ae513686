"""The LTFS format (ISO/IEC 20919) for the volumes of a tape library, through the commands of an LTFS.

:mod:`~drivers.tape.ltfs.messages` decides what the commands' words mean, :mod:`~drivers.tape.ltfs.volume`
is our label on an LTFS volume (both pure); :mod:`~drivers.tape.ltfs.child` runs the commands with bounded
output and time, :mod:`~drivers.tape.ltfs.mounting` mounts and proves, :mod:`~drivers.tape.ltfs.contents` and
:mod:`~drivers.tape.ltfs.store` are the Store on the mounted folder, and :mod:`~drivers.tape.ltfs.bay` joins
them for one drive.
"""
