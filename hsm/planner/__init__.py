"""What each drive does next. Pure: queued work, volumes and drives in, sessions and prompts out."""

from __future__ import annotations

from hsm.planner.assign import plan
from hsm.planner.order import SECONDS_PER_POINT, LocateCost, due, locate_order
from hsm.planner.values import DriveAt, Plan, Prompt, Session, VolumeAt, Work

__all__ = [
    "SECONDS_PER_POINT",
    "DriveAt",
    "LocateCost",
    "Plan",
    "Prompt",
    "Session",
    "VolumeAt",
    "Work",
    "due",
    "locate_order",
    "plan",
]
