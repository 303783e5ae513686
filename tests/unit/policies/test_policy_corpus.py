"""Each broken file of the corpus is refused at the line that its first comment names, with its mend."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policies import PolicyErrors, PoolInfo, load_texts

CORPUS = sorted((Path(__file__).parents[2] / "data/broken-policies").glob("*.yaml"))
POOLS = (
    PoolInfo("online", "disk", "online", "main"),
    PoolInfo("nearline", "disk", "nearline", "main"),
    PoolInfo("cold", "s3", "nearline", "cloud"),
    PoolInfo("tape-a", "tape", "nearline", "main"),
    PoolInfo("vault", "tape", "offline", "cellar"),
)
ERRORS_MAX = 4
"""One mistake is not told in more errors than that."""
MENDS = re.compile(
    r"\b(write|did you mean|known|add|remove|rename|keep|name|make|give|mend|split|leave|expected|must be|"
    r"indent|put|begin|raise|shorten|lower|part|align|needs|belongs|compare|as in)\b",
    re.IGNORECASE,
)


def test_the_corpus_is_large_and_each_of_its_mistakes_is_another() -> None:
    texts = {path.read_text("utf-8").split("\n", 2)[2] for path in CORPUS}
    assert len(texts) == len(CORPUS) >= 200


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_a_broken_file_names_its_line_and_says_how_to_mend_it(path: Path) -> None:
    text = path.read_text("utf-8")
    head = re.match(r"# line: (\d+)\n# says: (.+)\n", text)
    assert head is not None, "the file begins with the line and a part of the message"
    line, says = int(head.group(1)), head.group(2)
    with pytest.raises(PolicyErrors) as caught:
        load_texts({path.name: text}, POOLS)
    errors = caught.value.errors
    assert len(errors) <= ERRORS_MAX, [str(error) for error in errors]
    (error, *_) = [error for error in errors if error.line == line and says in error.message] or [None]
    assert error is not None, [str(error) for error in errors]
    assert MENDS.search(error.message), error.message
    place, source, caret = error.render().split("\n")
    assert place.startswith(f"{path.name}:{line}:")
    assert source.strip() == text.split("\n")[line - 1].strip()
    assert caret.strip("^ \t") == ""
