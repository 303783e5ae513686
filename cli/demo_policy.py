"""``hsm demo policy``: a year of a made-up hospital with two policies, side by side."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from cli import screen
from cli.policy_simulate import answer, show
from cli.screen import Json

STUDIES_A_DAY = 20.0
STOCK_YEARS = 2.0


def demo_policy(
    plot: Annotated[
        Path | None, typer.Option(help="A folder for pictures: PNG, and one page of HTML.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another number makes another hospital.")] = 1,
    json: Json = False,
) -> None:
    """Two policies, the same year: what each would have cost, and who would have waited. Under a minute.

    Nothing is read but the files of the demo and nothing is written but the pictures.
    """
    from hsm.config import packaged_etc  # heavy: only for the commands that need it
    from hsm.whatif import Hospital, Question

    folder = packaged_etc() / "simulate" / "demo"
    files = (folder / "roomy.yaml", folder / "lean.yaml")
    question = Question(
        policies=files,
        begin=datetime(2025, 1, 1, tzinfo=UTC),
        end=datetime(2026, 1, 1, tzinfo=UTC),
        seed=seed,
        hospital=Hospital(studies_a_day=STUDIES_A_DAY, stock_years=STOCK_YEARS),
        site=folder / "site.yaml",
        current=False,
        config=packaged_etc() / "hsm.yaml",
    )
    if not json:
        screen.say_text(
            f"A made-up hospital with {STUDIES_A_DAY:g} studies a day has been archiving for"
            f" {STOCK_YEARS:g} years. Two admins have written a policy each: 'roomy' keeps everything on"
            " disk; 'lean' puts what nobody reads on tape and brings priors back in advance. The year 2025"
            " happens twice."
        )
    show(answer(question, plot, quiet=json), plot, json)
    if json:
        return
    screen.say("")
    screen.say_text(
        "The policies, the hardware and the prices are plain files: change a copy and try again with"
    )
    screen.say(
        f"  hsm policy simulate --no-current --synthetic {STUDIES_A_DAY:g} --policy {files[1]}"
        f" --site {folder / 'site.yaml'}"
    )
    screen.say_text(
        "In an archive that has run for a while, leave out --synthetic: it replays what was recorded."
    )
