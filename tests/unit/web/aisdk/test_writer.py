"""The writer's rules, one by one. tests/e2e/aisdk tests its chunks with the real clients."""

import pytest

from tests.unit.web.aisdk.client import Client
from tokenwire.web.aisdk import Misuse, Writer
from tokenwire.web.aisdk.values import PROFILES


def kinds(chunks: list[dict[str, object]]) -> list[object]:
    return [chunk["type"] for chunk in chunks]


def test_text_and_reasoning_are_opened_and_closed() -> None:
    """By the next part, by the end of a step, and by the end."""
    write = Writer()
    chunks = (
        write.start("m")
        + write.reasoning("a")
        + write.text("b")
        + write.start_step()
        + write.text("c")
        + write.finish("stop")
    )
    assert kinds(chunks) == [
        "start",
        *("reasoning-start", "reasoning-delta", "reasoning-end", "text-start", "text-delta"),
        "start-step",
        *("text-delta", "text-end", "finish-step", "finish"),
    ]
    Client().read(chunks)


def test_a_step_closes_its_open_parts() -> None:
    """ai 5 and 6 forget open parts there."""
    write = Writer()
    write.start_step()
    write.text("a")
    assert kinds(write.finish_step()) == ["text-end", "finish-step"]
    assert kinds(write.text("b")) == ["text-start", "text-delta"]


def test_absent_fields_are_left_out_and_null_stays() -> None:
    """Clients refuse null for an optional field; an input, an output and data may be null."""
    write = Writer()
    assert write.start() == [{"type": "start"}]
    assert write.source_url("s", "https://example.com") == [
        {"type": "source-url", "sourceId": "s", "url": "https://example.com"}
    ]
    assert write.tool_input_available("1", "t", None)[0]["input"] is None
    assert write.tool_output_available("1", None)[0]["output"] is None
    assert write.data("x", None) == [{"type": "data-x", "data": None}]


def test_an_empty_delta_is_nothing() -> None:
    """It opens no part."""
    assert Writer().text("") == []


def test_a_message_is_started_when_needed() -> None:
    """By whatever is written first."""
    assert kinds(Writer().file("data:,x", "text/plain")) == ["start", "file"]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda write: write.start("again"),
        lambda write: write.finish_step(),
        lambda write: write.text_delta("x", "nobody"),
        lambda write: write.text_end("nobody"),
        lambda write: write.reasoning_delta("x", "text"),
        lambda write: write.text_start("text"),
        lambda write: write.tool_input_delta("nobody", "x"),
        lambda write: write.tool_output_available("nobody", 1),
        lambda write: write.tool_output_denied("nobody"),
        lambda write: write.tool_approval_request("nobody", "a"),
        lambda write: write.tool_output_error("done", "x"),
        lambda write: write.tool_input_delta("done", "x"),
        lambda write: write.text(b"bytes"),
        lambda write: write.text(None),
        lambda write: write.data("", 1),
        lambda write: write.data("x", object()),
        lambda write: write.data("x", {1j: 1}),
        lambda write: write.custom("kind"),
        lambda write: write.source_url("s", None),
        lambda write: write.text_start("t", {"provider": 1}),
        lambda write: write.message_metadata([1]),
    ],
)
def test_misuse_raises_and_changes_nothing(wrong: object) -> None:
    """The error names the mistake; the stream continues."""
    write = Writer("v7")
    written = (
        write.start("m")
        + write.text("a")
        + write.tool_input_available("done", "t", {})
        + write.tool_output_available("done", 1)
    )
    with pytest.raises(Misuse, match=r"\w+ \w+"):
        wrong(write)  # type: ignore[operator]
    Client().read(written + write.text("b") + write.finish())


NO_TEXTS = [
    lambda write: write.start(message_id=5),
    lambda write: write.abort(reason=5),
    lambda write: write.data("x", object()),
    lambda write: write.data("x", 1, part_id=5),
    lambda write: write.source_url("s", "https://example.com", title=5),
    lambda write: write.source_document("s", "text/plain", "t", filename=5),
    lambda write: write.tool_input_start("new", "t", title=5),
    lambda write: write.tool_input_available("new", "t", {}, title=object),
    lambda write: write.tool_approval_request("known", "a", reason=5),
    lambda write: write.tool_approval_request("known", "a", signature=object),
    lambda write: write.tool_approval_response("a", True, reason=5),
]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("wrong", NO_TEXTS)
def test_misuse_begins_no_message(wrong: object, profile: str) -> None:
    """Whatever its profile would leave out: the next chunk still has the start before it."""
    write = Writer(profile, tools=["known"])  # type: ignore[arg-type]
    with pytest.raises(Misuse, match=r"\w+ \w+"):
        wrong(write)  # type: ignore[operator]
    assert kinds(write.text("a")) == ["start", "text-start", "text-delta"]


@pytest.mark.parametrize(
    "end",
    [lambda write: write.finish(), lambda write: write.abort(), lambda write: write.error("x")],
)
def test_nothing_follows_an_end(end: object) -> None:
    """Of any kind."""
    write = Writer()
    end(write)  # type: ignore[operator]
    assert write.close() == []
    for late in (
        lambda: write.text("x"),
        write.start,
        write.start_step,
        write.finish,
        lambda: write.data("x", 1),
    ):
        with pytest.raises(Misuse):
            late()


def test_a_profile_is_one_of_three() -> None:
    """Anything else is misuse."""
    with pytest.raises(Misuse):
        Writer("v4")  # type: ignore[arg-type]


def fallbacks(profile: str) -> dict[str, object]:
    """What each profile makes of parts that not all know."""
    write = Writer(profile)  # type: ignore[arg-type]
    write.start()
    write.tool_input_available("1", "t", {})
    told = {
        "approval": write.tool_approval_request("1", "a", reason="r")[0],
        "response": write.tool_approval_response("a", False)[0],
        "denied": write.tool_output_denied("1")[0],
        "custom": write.custom("p.t")[0],
        "file": write.reasoning_file("data:,x", "text/plain")[0],
        "reset": write.reset_step({"keep": 0})[0],
        "steering": write.steering_message("u", [])[0],
        "abort": Writer(profile).abort("why")[-1],  # type: ignore[arg-type]
        "finish": write.finish("interrupted")[-1],
    }
    return {
        name: (chunk["type"], chunk.get("reason"), chunk.get("finishReason"))
        for name, chunk in told.items()
    }


def test_fallbacks() -> None:
    """As documented."""
    v5, v6, v7 = (fallbacks(profile) for profile in PROFILES)
    assert v5 == {
        "approval": ("data-approval", None, None),
        "response": ("data-approval", None, None),
        "denied": ("tool-output-error", None, None),
        "custom": ("data-custom", None, None),
        "file": ("file", None, None),
        "reset": ("data-reset", None, None),
        "steering": ("data-steering-message", None, None),
        "abort": ("abort", None, None),
        "finish": ("finish", None, "other"),
    }
    assert v6 == v5 | {
        "approval": ("tool-approval-request", None, None),
        "denied": ("tool-output-denied", None, None),
        "abort": ("abort", "why", None),
    }
    assert v7 == {
        "approval": ("tool-approval-request", "r", None),
        "response": ("tool-approval-response", None, None),
        "denied": ("tool-output-denied", None, None),
        "custom": ("custom", None, None),
        "file": ("reasoning-file", None, None),
        "reset": ("reset-step", None, None),
        "steering": ("steering-message", None, None),
        "abort": ("abort", "why", None),
        "finish": ("finish", None, "interrupted"),
    }


def test_a_stream_that_continues_another() -> None:
    """The reader's parts are open."""
    write = Writer(started=True, in_step=True, open_parts={"text": "text"}, tools=None)
    assert kinds(write.text("x") + write.tool_output_available("any", 1) + write.finish()) == [
        "text-delta",
        "tool-output-available",
        "text-end",
        "finish-step",
        "finish",
    ]
