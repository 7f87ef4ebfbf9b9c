"""Streams for encoder.test.mjs, as a JSON file: one with every part, and many of random calls."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

from tests.examples import many
from tokenwire.web.aisdk import Misuse, UIChunk, Writer
from tokenwire.web.aisdk.values import PROFILES, Profile

IDS = ("a", "b", "text", "reasoning", "")
Call = Callable[[], list[UIChunk]]


def everything(profile: Profile) -> list[UIChunk]:
    """Each method of the writer, at least once, with all its arguments."""
    write = Writer(profile)
    pm = {"provider": {"key": ["value", None, 1.5]}}
    chunks = write.start("message", {"model": "m", "nested": {"a": [1]}}) + write.start_step()
    chunks += (
        write.reasoning("hm")
        + write.text("Hel")
        + write.text("lo \ud83d")
        + write.text("\ude00")
        + write.close()
    )
    chunks += (
        write.text_start("a", pm)
        + write.text_delta("x", "a", pm)
        + write.text_start("b")
        + write.text_end("a", pm)
        + write.text_end("b")
    )
    chunks += (
        write.reasoning_start("r", pm)
        + write.reasoning_delta("y", "r", pm)
        + write.reasoning_end("r", pm)
    )
    chunks += write.tool_input_start(
        "1",
        "weather",
        provider_executed=True,
        title="Weather",
        tool_metadata={"a": 1},
        provider_metadata=pm,
    )
    chunks += write.tool_input_delta("1", '{"city":') + write.tool_input_delta("1", '"Bonn"}')
    chunks += write.tool_input_available(
        "1",
        "weather",
        {"city": "Bonn"},
        provider_executed=True,
        title="Weather",
        provider_metadata=pm,
    )
    chunks += write.tool_output_available(
        "1", {"c": 20}, preliminary=True
    ) + write.tool_output_available("1", None, provider_executed=True)
    chunks += write.tool_input_available(
        "2", "lookup", None, dynamic=True, tool_metadata={"a": 1}
    ) + write.tool_output_error("2", "no")
    chunks += write.tool_input_error("3", "weather", "no json", "not valid", provider_metadata=pm)
    hostile = {"__proto__": 1, "constructor": {"prototype": float("nan")}}
    chunks += write.tool_input_available(
        "hostile", "weather", hostile
    ) + write.tool_output_available("hostile", [float("inf"), hostile])
    chunks += write.tool_input_available("4", "rm", {}) + write.tool_approval_request(
        "4", "approval", reason="risky", signature="s"
    )
    chunks += write.tool_approval_response(
        "approval", False, reason="no"
    ) + write.tool_output_denied("4")
    chunks += write.source_url("s1", "https://example.com", "Title", pm) + write.source_document(
        "s2", "text/plain", "T", "t.txt", pm
    )
    chunks += write.file("data:text/plain,x", "text/plain", pm) + write.reasoning_file(
        "data:text/plain,y", "text/plain"
    )
    chunks += (
        write.data("chart", [1], part_id="c")
        + write.data("chart", [2], part_id="c")
        + write.data("note", None, transient=True)
    )
    chunks += write.custom("provider.thing", pm)
    chunks += write.steering_message("u2", [{"type": "text", "text": "wait"}])
    chunks += (
        write.message_metadata({"more": True})
        + write.finish_step()
        + write.start_step()
        + write.text("kept")
        + write.start_step()
    )
    chunks += write.text("withdrawn") + write.reset_step({"keep": 0}) + write.text("again")
    return chunks + write.finish("interrupted", {"usage": {"inputTokens": 1}})


def at_random(profile: Profile, seed: int) -> list[UIChunk]:
    """60 random calls, many of them not allowed at their moment."""
    choose = random.Random(seed)
    write = Writer(profile)
    chunks: list[UIChunk] = []
    for _ in range(60):
        try:
            chunks += choose.choice(_calls(write, choose))()
        except Misuse:
            continue
    return (
        chunks
        if write.ended
        else chunks + write.finish(choose.choice(["stop", "unknown", "interrupted", "else", None]))
    )


def _calls(write: Writer, choose: random.Random) -> list[Call]:
    part, tool, name = (
        choose.choice(IDS),
        choose.choice("123"),
        choose.choice(["weather", "lookup"]),
    )
    dynamic = name == "lookup"
    return [
        lambda: write.start("m"),
        write.start_step,
        write.finish_step,
        lambda: write.text(choose.choice(["", "x", "\n"])),
        lambda: write.reasoning("y"),
        lambda: write.text_start(part),
        lambda: write.text_delta("z", part),
        lambda: write.text_end(part),
        lambda: write.reasoning_start(part),
        lambda: write.reasoning_delta("z", part),
        lambda: write.reasoning_end(part),
        lambda: write.tool_input_start(tool, name, dynamic=dynamic),
        lambda: write.tool_input_delta(tool, '{"a"'),
        lambda: write.tool_input_available(tool, name, {"a": 1}, dynamic=dynamic),
        lambda: write.tool_input_error(tool, name, None, "bad", dynamic=dynamic),
        lambda: write.tool_output_available(tool, 1, preliminary=choose.random() < 0.5),
        lambda: write.tool_output_error(tool, "bad"),
        lambda: write.tool_output_denied(tool),
        lambda: write.tool_approval_request(tool, f"approve {tool}"),
        lambda: write.source_url("s", "https://example.com"),
        lambda: write.data("x", {}, part_id="x"),
        lambda: write.message_metadata({"a": choose.random()}),
        lambda: write.reset_step(),
        lambda: write.finish("stop") if choose.random() < 0.02 else [],
        lambda: write.abort("enough") if choose.random() < 0.02 else [],
        lambda: write.error("failed") if choose.random() < 0.02 else [],
    ]


def main(path: str) -> None:
    """Write the file."""
    made = {
        profile: [everything(profile), *(at_random(profile, seed) for seed in range(many(200)))]
        for profile in PROFILES
    }
    Path(path).write_text(json.dumps(made, allow_nan=False))


if __name__ == "__main__":
    main(sys.argv[1])
