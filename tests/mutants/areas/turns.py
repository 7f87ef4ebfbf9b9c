"""What keeps one provider's answer from blocking the others of its worker."""

from tests.mutants.mutant import Area, Mutant

BOUNDS = ("tests/unit/providers/test_bounds.py",)
TURNS = ("tests/integration/providers/test_turns.py",)

AREA = Area(
    "turns",
    (*BOUNDS, "tests/unit/worker/attempt/test_portions.py"),
    [
        Mutant(
            "an_event_may_hold_any_number_of_values",
            "providers/decoding.py",
            "            if is_too_much(data):\n",
            "            if False:\n",
        ),
        Mutant(
            "texts_count_as_values",
            "providers/amount.py",
            "    return _marks(outside) >",
            "    return _marks(text) >",
        ),
        Mutant(
            "quotes_are_not_counted",
            "providers/amount.py",
            "    if bare.count(b'\"') > _QUOTES:\n",
            "    if False:\n",
        ),
        Mutant(
            "escaped_quotes_end_a_text", "providers/amount.py", """.replace(b'\\\\"', b"")""", ""
        ),
        Mutant(
            "endless_numbers_are_read",
            "providers/amount.py",
            " or _ENDLESS in outside.translate(_ALIKE)",
            "",
        ),
        Mutant(
            "an_event_has_any_number_of_lines",
            "providers/framing.py",
            "if len(self._data) >= MAX_LINES:",
            "if False:",
        ),
        Mutant(
            "a_line_has_any_number_of_objects",
            "providers/framing.py",
            "if len(found) > MAX_LINES:",
            "if False:",
        ),
        Mutant(
            "a_line_has_any_number_of_braces",
            "providers/framing.py",
            "if braces > 2 * MAX_VALUES:",
            "if False:",
        ),
        Mutant(
            "an_event_has_any_number_of_parts",
            "providers/decoding.py",
            "if self._frame_objects > MAX_OBJECTS:",
            "if False:",
        ),
        Mutant(
            "parts_of_events_add_up",
            "providers/decoding.py",
            "self._frame_bytes, self._frame_objects = len(data), 0",
            "self._frame_bytes = len(data)",
        ),
        Mutant(
            "sources_are_no_parts",
            "providers/openai_chat.py",
            "        self._count_objects(len(entries))\n",
            "",
        ),
        Mutant(
            "words_are_parsed",
            "providers/fields.py",
            '    if not data.lstrip(_BLANK).startswith(b"{"):\n',
            "    if False:\n",
        ),
        Mutant(
            "arguments_hold_any_number_of_values",
            "providers/tool_calls.py",
            "if len(text) > LARGE_BYTES and",
            "if False and",
        ),
        Mutant(
            "a_path_has_any_length",
            "providers/json_path.py",
            "if len(path) > _LONGEST_PATH:",
            "if False:",
        ),
        Mutant(
            "a_reason_has_any_length",
            "providers/decoding.py",
            "words(raw)[:MAX_REASON_CHARS]",
            "words(raw)",
        ),
        Mutant(
            "a_block_has_a_reason_of_any_length",
            "providers/gemini.py",
            "words(blocked)[:MAX_REASON_CHARS]",
            "words(blocked)",
        ),
        Mutant("all_details_are_read", "providers/hints.py", "details[:_MOST_DETAILS]", "details"),
        Mutant(
            "a_body_is_read_in_one_go",
            "providers/stream.py",
            "            if given > _STEP_BYTES:\n",
            "            if False:\n",
            TURNS,
        ),
        Mutant(
            "a_batch_is_taken_in_one_go",
            "worker/attempt/intake.py",
            "enumerate(portions(batch))",
            "enumerate([batch])",
            ("tests/integration/attempt/test_stops.py",),
        ),
        Mutant(
            "portions_are_taken_without_a_pause",
            "worker/attempt/intake.py",
            "                self._writer.wake()\n                await asyncio.sleep(0)\n",
            "                self._writer.wake()\n",
            ("tests/integration/attempt/test_stops.py",),
        ),
        Mutant(
            "a_call_weighs_nothing",
            "worker/attempt/portions.py",
            "ToolCallEnd: MAX_DELTAS",
            "ToolCallEnd: 1",
        ),
        Mutant(
            "the_last_portion_is_lost",
            "worker/attempt/portions.py",
            "    if portion:\n        yield portion\n",
            "",
        ),
        Mutant(
            "a_long_text_is_one_piece",
            "worker/attempt/portions.py",
            "and len(delta.text) > MAX_CHARS",
            "and False",
        ),
        Mutant(
            "an_endless_item_is_written",
            "worker/attempt/parts.py",
            "        if is_longer(kept.value, self._kept_room + len(text)):\n",
            "        if False:\n",
            ("tests/unit/worker/attempt/test_parts.py",),
        ),
        Mutant(
            "arguments_that_are_cut_off_are_parsed",
            "worker/attempt/parts.py",
            "        is_whole = is_whole and not call.is_cut\n",
            "",
            ("tests/unit/worker/attempt/test_parts.py",),
        ),
    ],
)
