"""The encoders: server-sent events, AI SDK, OpenAI's API."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "encoders",
    (
        "tests/unit/web/events/test_encoder.py",
        "tests/unit/protocol/test_growing.py",
        "tests/unit/web/openai/test_encoder.py",
        "tests/unit/web/aisdk",
    ),
    [
        Mutant(
            "sse_heartbeats_do_not_move_the_cursor",
            "web/events/encoder.py",
            '        return comment("heartbeat", reached)',
            '        return comment("heartbeat")',
        ),
        Mutant(
            "sse_heartbeats_always_move_the_cursor",
            "web/events/encoder.py",
            "if reached is None or reached == self._sent:",
            "if reached is None:",
        ),
        Mutant(
            "sse_after_wins_over_last_event_id",
            "web/events/encoder.py",
            "text = last_event_id or after",
            "text = after or last_event_id",
        ),
        Mutant(
            "sse_tells_of_other_messages",
            "web/events/encoder.py",
            "entries = [entry for entry in entries if concerns(entry.data, wanted)]",
            "entries = list(entries)",
        ),
        Mutant(
            "sse_forgets_the_row_of_a_message",
            "web/events/encoder.py",
            """ or (
        about.message is not None and about.message.id == message_id
    )""",
            "",
        ),
        Mutant(
            "sse_does_not_merge_for_who_is_behind",
            "web/events/encoder.py",
            "for entry in merge(entries) if merged else entries:",
            "for entry in entries:",
        ),
        Mutant(
            "sse_resync_has_an_id",
            "web/events/encoder.py",
            'return b"data: %b\\n\\n" % data',
            'return b"id: x:0\\ndata: %b\\n\\n" % data',
        ),
        Mutant(
            "sse_a_block_is_not_ended",
            "web/events/encoder.py",
            'return b"id: %b:%d\\ndata: %b\\n\\n"',
            'return b"id: %b:%d\\ndata: %b\\n"',
        ),
        Mutant(
            "sse_no_retry",
            "web/events/encoder.py",
            'return f": tokenwire\\nretry: {retry_ms}\\n{line}\\n".encode()',
            'return f": tokenwire\\n{line}\\n".encode()',
        ),
        Mutant(
            "growing_repeats_an_overlap",
            "protocol/growing.py",
            "            content = content[len(cut(content, overlap)) :]\n",
            "            pass\n",
        ),
        Mutant(
            "growing_counts_code_points",
            "protocol/growing.py",
            "        self._parts.append(content)\n        self._units += utf16_length(content)",
            "        self._parts.append(content)\n        self._units += len(content)",
        ),
        Mutant(
            "growing_never_withdraws",
            "protocol/growing.py",
            "        elif not owed.startswith(text):\n            raise Withdrawn\n",
            "",
        ),
        Mutant(
            "growing_finishes_with_something_owed",
            "protocol/growing.py",
            "        self._set(text)\n        if self._owed is not None:\n            raise Withdrawn\n",
            "        self._set(text)\n",
        ),
        Mutant(
            "growing_says_what_is_out_again",
            "protocol/growing.py",
            'self._unsent = text[self.sent :] if self._owed is None else ""',
            'self._unsent = text if self._owed is None else ""',
        ),
        Mutant(
            "openai_numbers_depend_on_the_reader",
            "web/openai/encoder.py",
            '{"type": kind, "sequence_number": self.number, **fields}))\n        self.number += 1',
            '{"type": kind, "sequence_number": self.number, **fields}))\n            self.number += 1',
        ),
        Mutant(
            "openai_resumes_one_too_late",
            "web/openai/encoder.py",
            "        if self.number > self.after:\n",
            "        if self.number > self.after + 1:\n",
        ),
        Mutant(
            "openai_resumes_one_too_early",
            "web/openai/encoder.py",
            "        if self.number > self.after:\n",
            "        if self.number >= self.after:\n",
        ),
        Mutant(
            "openai_cuts_by_the_log",
            "web/openai/encoder.py",
            "        while self._text.waiting(PIECE_CHARS):\n",
            "        if rest := self._text.take_rest():\n            self._delta(rest)\n        while self._text.waiting(PIECE_CHARS):\n",
        ),
        Mutant(
            "openai_reasoning_after_the_text",
            "web/openai/encoder.py",
            "elif isinstance(event, Reasoning) and not self._text_begun:",
            "elif isinstance(event, Reasoning):",
        ),
        Mutant(
            "openai_withdrawn_text_stays_in_its_item",
            "web/openai/encoder.py",
            '            self.close("incomplete")\n            self._text = Growing',
            "            self._text = Growing",
        ),
        Mutant(
            "openai_the_rest_is_dropped",
            "web/openai/encoder.py",
            "        if rest := self._text.take_rest():\n            self._delta(rest)\n        text, place",
            "        text, place",
        ),
        Mutant(
            "openai_the_message_shares_the_index_of_the_reasoning",
            "web/openai/encoder.py",
            "            self._message.index = self._reasoning.index\n",
            "            pass\n",
        ),
        Mutant(
            "openai_calls_share_the_index_of_the_message",
            "web/openai/encoder.py",
            "for index, call in enumerate(calls, self._message.index):",
            "for index, call in enumerate(calls):",
        ),
        Mutant(
            "openai_who_claims_too_much_gets_no_end",
            "web/openai/encoder.py",
            "        if self._writer.known > 1:\n            self._writer.after = self._writer.number - 1\n",
            "",
        ),
        Mutant(
            "openai_a_failure_takes_a_number",
            "web/openai/encoder.py",
            """                "sequence_number": self.last,
""",
            """                "sequence_number": self.last + 1,
""",
        ),
        Mutant(
            "openai_a_cancelled_answer_is_complete",
            "web/openai/encoder.py",
            """        objects.response_status(answer), "response.incomplete"
""",
            """        objects.response_status(answer), "response.completed"
""",
        ),
        Mutant(
            "chat_a_failed_answer_is_done",
            "web/openai/encoder.py",
            "            yield self.failure(*objects.failure(answer))\n            return\n",
            "            pass\n",
        ),
        Mutant(
            "chat_usage_is_not_given",
            "web/openai/encoder.py",
            "        if self._include_usage:\n            yield",
            "        if False:\n            yield",
        ),
        Mutant(
            "chat_has_no_done", "web/openai/encoder.py", '        yield b"data: [DONE]\\n\\n"\n', ""
        ),
        Mutant(
            "chat_forgets_tool_calls",
            "web/openai/encoder.py",
            "answer.tool_calls",
            "False",
        ),
        Mutant(
            "aisdk_open_parts_are_left_at_the_end_of_a_step",
            "web/aisdk/writer.py",
            'chunks = [*self.close(), {"type": "finish-step"}]',
            'chunks: list[Chunk] = [{"type": "finish-step"}]',
        ),
        Mutant(
            "aisdk_text_goes_on_in_the_reasoning_part",
            "web/aisdk/writer.py",
            "            chunks += self.close() + self._part_start(kind, kind, None)\n",
            "            chunks += self._part_start(kind, kind, None) if kind not in self._open else []\n",
        ),
        Mutant(
            "aisdk_chunks_after_the_end",
            "web/aisdk/writer.py",
            '        if self.ended:\n            raise Misuse("the message has ended")\n',
            "",
        ),
        Mutant(
            "aisdk_two_outputs_of_a_call",
            "web/aisdk/writer.py",
            '        if tool.done:\n            raise Misuse(f"tool call {call_id!r} has its output")\n',
            "",
        ),
        Mutant(
            "aisdk_v5_is_told_of_an_abort_reason",
            "web/aisdk/writer.py",
            'reason=None if self.profile == "v5" else reason',
            "reason=reason",
        ),
        Mutant(
            "aisdk_what_the_row_holds_is_said_again",
            "web/aisdk/encoder.py",
            """(
            self.ended
            or seq <= self._seq
            or event is None
            or getattr(event, "message_id", None) != self._row["id"]
        )""",
            'self.ended or event is None or getattr(event, "message_id", None) != self._row["id"]',
        ),
        Mutant(
            "aisdk_other_messages_are_shown",
            "web/aisdk/encoder.py",
            """(
            self.ended
            or seq <= self._seq
            or event is None
            or getattr(event, "message_id", None) != self._row["id"]
        )""",
            "self.ended or seq <= self._seq or event is None",
        ),
        Mutant(
            "aisdk_a_hole_is_shown_over",
            "web/aisdk/encoder.py",
            "        if offset > self.end:\n",
            "        if False:\n",
        ),
        Mutant(
            "aisdk_an_overlap_is_repeated",
            "web/aisdk/encoder.py",
            "new = content if offset == self.end else _beyond(content, self.end - offset)",
            "new = content",
        ),
        Mutant(
            "aisdk_the_checksum_is_not_looked_at",
            "web/aisdk/encoder.py",
            """(self._text.end, checksum(self._text.whole)) != (
            event.length,
            event.crc32,
        )""",
            "self._text.end != event.length",
        ),
        Mutant(
            "aisdk_withdrawn_calls_stay_open",
            "web/aisdk/encoder.py",
            '                chunks += self._write.tool_output_error(call_id, "The call was withdrawn.")\n',
            "                pass\n",
        ),
        Mutant(
            "aisdk_what_is_kept_is_not_written_again",
            "web/aisdk/encoder.py",
            """(
            chunks
            + self._write.reasoning(self._reasoning.whole)
            + self._write.text(self._text.whole)
        )""",
            "chunks",
        ),
        Mutant(
            "aisdk_a_result_is_told_twice",
            "web/aisdk/encoder.py",
            '        if "result" in shown and event.tool_call_id not in self._unsure:\n            return []\n',
            "",
        ),
        Mutant(
            "aisdk_usage_is_not_told",
            "web/aisdk/encoder.py",
            "        if event.usage is not None:\n",
            "        if False:\n",
        ),
        Mutant(
            "aisdk_a_row_that_is_behind_withdraws",
            "web/aisdk/encoder.py",
            '            self._seq = row["seq"]\n            return []\n',
            "            pass\n",
        ),
        Mutant(
            "sse_the_opening_is_told_again",
            "web/events/encoder.py",
            "        self._sent = begins\n",
            "",
            ("tests/unit/web/events/test_encoder.py",),
        ),
        Mutant(
            "openai_calls_take_the_place_of_reasoning",
            "web/openai/encoder.py",
            "        self._message.index = max(self._message.index, self._reasoning.index)\n",
            "",
            ("tests/unit/web/openai/test_encoder.py",),
        ),
    ],
)
