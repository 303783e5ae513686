"""Logs: what people read, what machines read, and what a hostile peer cannot do to either."""

from __future__ import annotations

import io
import json
import logging
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from hsm.log import HumanFormatter, JsonFormatter, RateLimit, context, get_logger, neutral, set_level, set_up


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Ascii(io.StringIO):
    encoding = "ascii"


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    names = (
        "pynetdicom",
        "uvicorn",
        "uvicorn.error",
        "uvicorn.access",
        "pydicom",
        "sqlalchemy",
        "alembic",
        "httpx",
    )
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, number in levels.items():
        logging.getLogger(name).setLevel(number)
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_terminal_gets_short_lines_and_anything_else_json() -> None:
    terminal, file = Terminal(), io.StringIO()
    set_up("info", "auto", terminal)
    get_logger("hsm.seal").info("sealed %s", "abc", extra={"study": "1.2.3", "size": 7})
    set_up("info", "auto", file)
    get_logger("hsm.seal").info("sealed %s", "abc", extra={"study": "1.2.3", "size": 7})
    assert terminal.getvalue().endswith(" INFO    seal: sealed abc study=1.2.3 size=7\n")
    (line,) = lines(file)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "hsm.seal",
        "message": "sealed abc",
        "study": "1.2.3",
        "size": 7,
    }


def test_colour_is_for_terminals_only_and_can_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    coloured, plain, refused = Terminal(), io.StringIO(), Terminal()
    set_up("info", "human", coloured)
    get_logger("x").warning("hot")
    set_up("info", "human", plain)
    get_logger("x").warning("hot")
    monkeypatch.setenv("NO_COLOR", "1")
    set_up("info", "human", refused)
    get_logger("x").warning("hot")
    assert "\x1b[33m" in coloured.getvalue()
    assert "\x1b" not in plain.getvalue() + refused.getvalue()


def test_setting_up_again_replaces_the_handler() -> None:
    first, second = io.StringIO(), io.StringIO()
    set_up("info", "json", first)
    set_up("info", "json", second)
    get_logger("x").info("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 1


def test_the_level_can_change_while_running() -> None:
    stream = io.StringIO()
    set_up("warning", "json", stream)
    get_logger("x").info("before")
    set_level("debug")
    get_logger("x").debug("after")
    assert [line["message"] for line in lines(stream)] == ["after"]


def test_libraries_are_heard_from_warning_on_even_when_the_daemon_debugs() -> None:
    stream = io.StringIO()
    logging.getLogger("uvicorn").addHandler(logging.StreamHandler(stream))  # what uvicorn sets up by itself
    set_up("debug", "json", stream)
    for name in ("pynetdicom.acse", "uvicorn.access", "uvicorn.error", "sqlalchemy.engine"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble")
    assert [line["message"] for line in lines(stream)] == ["trouble"] * 4


def test_what_a_library_says_of_a_peer_s_nonsense_is_a_warning_of_one_line() -> None:
    def said() -> dict[str, Any]:
        out = io.StringIO()
        set_up(level, "json", out)
        try:
            raise ValueError("a PDU that ends too soon")
        except ValueError:
            logging.getLogger("pynetdicom.dul").exception("cannot decode")
        found: dict[str, Any] = json.loads(out.getvalue())
        return found

    level = "info"
    assert said()["level"] == "warning"
    assert "Traceback" not in json.dumps(said())
    level = "debug"
    assert "Traceback" in json.dumps(said())


def test_context_is_added_inside_its_block_and_only_in_its_thread() -> None:
    stream = io.StringIO()
    set_up("info", "json", stream)
    log = get_logger("x")
    with context(peer="CT1"), context(association=7):
        log.info("inside")
        log.info("own", extra={"peer": "explicit"})
        thread = threading.Thread(target=log.info, args=("elsewhere",))
        thread.start()
        thread.join()
    log.info("outside")
    found = {line["message"]: (line.get("peer"), line.get("association")) for line in lines(stream)}
    assert found == {
        "inside": ("CT1", 7),
        "own": ("explicit", 7),
        "elsewhere": (None, None),
        "outside": (None, None),
    }


@pytest.mark.parametrize("form", ["human", "json"])
def test_what_a_peer_sends_cannot_forge_a_line_or_steer_the_terminal(form: Any) -> None:
    stream = io.StringIO()
    set_up("info", form, stream)
    evil = "DOE^JOHN\n12:00:00 ERROR   x: all copies deleted\r\x1b[2J\x9b2J\x00\u2028\u202e"
    get_logger("x").info("patient %s", evil, extra={"patient": evil, "k\ney": 1})
    try:
        int(evil)
    except ValueError:
        get_logger("x").exception("failed")
    written = stream.getvalue()
    text = written if form == "human" else "\n".join(str(line) for line in lines(stream))
    for character in "\r\x1b\x9b\x00\u2028\u202e":
        assert character not in text, repr(character)
    assert all(not line.startswith("12:00:00 ERROR") for line in written.splitlines())
    if form == "human":
        assert "patient DOE^JOHN\\n12:00:00" in written
        tail = written.splitlines()[2:]
        assert tail
        assert all(line.startswith("  | ") for line in tail), "lines of a traceback are marked as such"
    else:
        assert len(lines(stream)) == 2


def test_a_byte_that_was_no_text_is_shown_as_an_escape() -> None:
    """Formatted without pytest's own handlers, which cannot pass a lone surrogate on."""
    made = record("name %s", "a\udcffb")
    assert HumanFormatter(colour=False).format(made).endswith("name a\\udcffb")
    assert json.loads(JsonFormatter().format(made))["message"] == "name a\\udcffb"


def test_names_in_every_script_stay_readable() -> None:
    name = "Wang^XiaoDong=王^小东=Ёлкин יוסף"
    assert neutral(name) == name
    stream = io.StringIO()
    set_up("info", "human", stream)
    get_logger("x").info("%s", name)
    assert name in stream.getvalue()


def test_a_stream_that_knows_only_ascii_gets_escapes_and_not_an_error() -> None:
    stream = Ascii()
    set_up("info", "human", stream)
    get_logger("x").info("%s", "王")
    assert "\\u738b" in stream.getvalue()


def test_long_messages_are_cut() -> None:
    stream = io.StringIO()
    set_up("info", "json", stream)
    get_logger("x").info("%s", "x" * 1_000_000, extra={"value": "y" * 1_000_000})
    assert len(stream.getvalue()) < 10_000
    assert lines(stream)[0]["message"].endswith("... (1000000 characters)")


def test_a_template_that_does_not_fit_its_arguments_is_still_logged() -> None:
    text = JsonFormatter().format(record("%d instances of %s", "many"))
    assert json.loads(text)["message"] == "%d instances of %s ('many',)"


def test_a_context_value_that_would_hide_a_record_s_own_is_refused() -> None:
    with pytest.raises(ValueError, match="name"), context(name="x"):
        pass


def test_extra_values_do_not_overwrite_the_line_s_own() -> None:
    stream = io.StringIO()
    set_up("info", "json", stream)
    get_logger("x").info("m", extra={"level": 5, "exception": "e", "flag": True, "none": None})
    (line,) = lines(stream)
    assert (line["level"], line["level_"], line["exception_"]) == ("info", 5, "e")
    assert (line["flag"], line["none"]) == (True, None)


def test_the_same_message_over_and_over_is_counted_and_not_repeated() -> None:
    stream = io.StringIO()
    set_up("info", "json", stream)
    for _ in range(1000):
        get_logger("x").warning("garbage from %s", "10.0.0.1")
    get_logger("x").warning("garbage from %s", "10.0.0.2")
    messages = [line["message"] for line in lines(stream)]
    assert messages == ["garbage from 10.0.0.1"] * 5 + ["garbage from 10.0.0.2"]


def record(
    message: str, *arguments: object, level: int = logging.WARNING, **values: object
) -> logging.LogRecord:
    made = logging.LogRecord("x", level, "", 0, message, arguments, None)
    vars(made).update(values)
    return made


def test_what_was_held_back_is_told_when_its_minute_is_over() -> None:
    now = [0.0]
    limit = RateLimit(lambda: now[0])
    assert [limit.passes(record("busy")) for _ in range(8)] == [True] * 5 + [False] * 3
    now[0] = 59.0
    assert limit.told() == []
    now[0] = 60.0
    (told,) = limit.told()
    assert (told.getMessage(), told.levelno, told.name) == (
        "3 more in 60 s not shown: busy",
        logging.WARNING,
        "x",
    )
    assert limit.passes(record("busy")), "a new minute begins"
    assert limit.told() == [], "told once"


def test_messages_with_other_values_are_other_messages() -> None:
    limit = RateLimit(lambda: 0.0)
    assert all(limit.passes(record("sealed", study=f"1.{n}")) for n in range(100))


def test_a_flood_from_one_template_is_limited_though_every_message_differs() -> None:
    limit = RateLimit(lambda: 0.0)
    passed = sum(limit.passes(record("port %d knocked", n)) for n in range(10_000))
    assert passed == 600
    told = [made.getMessage() for made in limit.told(everything=True)]
    assert any("9400 more" in text and "messages like: port %d knocked" in text for text in told)


def test_the_limit_forgets_so_that_it_cannot_fill_the_memory() -> None:
    limit = RateLimit(lambda: 0.0)
    for n in range(20_000):
        limit.told()
        limit.passes(record(f"message {n}"))
    assert len(limit._seen) <= 2002


def test_critical_messages_always_pass() -> None:
    limit = RateLimit(lambda: 0.0)
    assert all(limit.passes(record("last copy lost", level=logging.CRITICAL)) for _ in range(100))


def test_what_was_held_back_is_told_at_the_end() -> None:
    stream = io.StringIO()
    set_up("info", "json", stream)
    for _ in range(7):
        get_logger("x").warning("same")
    set_up("info", "json", io.StringIO())
    assert lines(stream)[-1]["message"] == "2 more in 0 s not shown: same"


def test_a_stream_that_is_gone_does_not_disturb_who_logs(capsys: pytest.CaptureFixture[str]) -> None:
    stream = io.StringIO()
    set_up("info", "json", stream)
    stream.close()
    get_logger("x").info("into the void")
    assert capsys.readouterr().err == ""


def test_python_s_warnings_become_log_lines() -> None:
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        set_up("info", "json", stream)
        warnings.warn("an odd value", UserWarning, stacklevel=1)
    assert "an odd value" in lines(stream)[0]["message"]


def test_warnings_about_what_peers_send_are_said_and_not_remembered() -> None:
    registry: dict[object, object] = {}
    stream = io.StringIO()
    with warnings.catch_warnings():
        warnings.resetwarnings()
        set_up("info", "human", stream)
        for number in range(100):
            text = f"Invalid value for VR UI: {number}"
            warnings.warn_explicit(text, UserWarning, "valuerep.py", 1, registry=registry)
    assert "VR UI: 99" in stream.getvalue()
    assert not any(isinstance(key, tuple) for key in registry)
