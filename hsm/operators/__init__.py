"""What a person is asked for, and what they answer: prompts, walks, scanned barcodes."""

from __future__ import annotations

from hsm.operators.damage import Damage
from hsm.operators.desk import Operators
from hsm.operators.manners import Manners
from hsm.operators.movements import Movements
from hsm.operators.reach import Feet
from hsm.operators.reminders import Reminders

__all__ = ["Damage", "Feet", "Manners", "Movements", "Operators", "Reminders"]
