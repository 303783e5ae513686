"""What each drive does next. Pure: queued work, volumes and drives in, sessions and prompts out."""

from __future__ import annotations

from hsm.planner.assign import plan
from hsm.planner.course import Course, Rules, Served
from hsm.planner.forecast import Ahead, Forecast, Outlook, forecast
from hsm.planner.locate import Extent, LocateCost, best_order, path_cost
from hsm.planner.order import PATIENCE, SECONDS_PER_POINT, due, locate_order
from hsm.planner.pace import Pace, PaceOf
from hsm.planner.recommended import recommended
from hsm.planner.share import share_volumes
from hsm.planner.tape import model_of, tape_cost
from hsm.planner.values import DriveAt, Plan, Prompt, Running, Session, Site, Situation, VolumeAt, Work
from hsm.planner.yields import Decide, Yield, may_matter, yields_to

__all__ = [
    "PATIENCE",
    "SECONDS_PER_POINT",
    "Ahead",
    "Course",
    "Decide",
    "DriveAt",
    "Extent",
    "Forecast",
    "LocateCost",
    "Outlook",
    "Pace",
    "PaceOf",
    "Plan",
    "Prompt",
    "Rules",
    "Running",
    "Served",
    "Session",
    "Site",
    "Situation",
    "VolumeAt",
    "Work",
    "Yield",
    "best_order",
    "due",
    "forecast",
    "locate_order",
    "may_matter",
    "model_of",
    "path_cost",
    "plan",
    "recommended",
    "share_volumes",
    "tape_cost",
    "yields_to",
]
