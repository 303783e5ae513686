"""Python imports this first in every process that has this folder on its PYTHONPATH: a daemon under test
and its receivers."""

import os

if "HSM_CRASH_PLAN" in os.environ:
    import crash_hook

    crash_hook.install(os.environ["HSM_CRASH_PLAN"])
