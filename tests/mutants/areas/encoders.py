"""The encoders: server-sent events, AI SDK, OpenAI's API."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "encoders",
    (
        "tests/unit/web/events/test_encoder.py",
        "tests/unit/protocol/test_sent.py",
        "tests/unit/protocol/test_upgrade.py",
        "tests/unit/web/openai/test_encoder.py",
        "tests/unit/web/openai/test_objects.py",
        "tests/unit/web/openai/test_replay.py",
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
            "sent_never_withdraws",
            "protocol/sent.py",
            "            if not piece.startswith(known):\n                raise Withdrawn\n",
            "",
        ),
        Mutant(
            "sent_finishes_with_something_owed",
            "protocol/sent.py",
            "        if self.owed:\n            raise Withdrawn\n",
            "        pass\n",
        ),
        Mutant(
            "sent_gives_what_is_out_again",
            "protocol/sent.py",
            "            piece = piece[len(known) :]\n",
            "",
        ),
        Mutant(
            "sent_compares_from_the_beginning_only",
            "protocol/sent.py",
            "            self._again += len(known)\n",
            "",
        ),
        Mutant(
            "upgrade_opens_a_part_for_each_piece",
            "protocol/upgrade.py",
            "len(answer.parts) if open_part is None else open_part",
            "len(answer.parts)",
        ),
        Mutant(
            "upgrade_repeats_sources",
            "protocol/upgrade.py",
            '    if any(part.type == kind and part.fields.get("url") == event.url for part in '
            "answer.parts):\n        return\n",
            "",
        ),
        Mutant(
            "upgrade_a_source_ends_its_text",
            "protocol/upgrade.py",
            '        value["at"] = text.start + text.units\n',
            "        pass\n",
        ),
        Mutant(
            "upgrade_keeps_withdrawn_calls",
            "protocol/upgrade.py",
            '        if part.type == "tool_call" and "result" not in part.fields:\n            '
            "break\n",
            "",
        ),
        Mutant(
            "upgrade_forgets_the_order_of_the_log",
            "protocol/upgrade.py",
            "    return _along(have, answer) or answer\n",
            "    return answer\n",
        ),
        Mutant(
            "upgrade_a_row_that_lags_counts",
            "protocol/upgrade.py",
            "    if behind and not want.ended and calls.keys() <= held:\n        return "
            "have.copy()\n",
            "",
        ),
        Mutant(
            "upgrade_no_object_is_proposed",
            "protocol/upgrade.py",
            '    if isinstance(arguments, str):\n        return "invalid"\n',
            "",
        ),
        Mutant(
            "openai_numbers_depend_on_the_reader",
            "web/openai/encoder.py",
            '{"type": kind, "sequence_number": self.number, **fields}))\n        self.number += 1',
            '{"type": kind, "sequence_number": self.number, **fields}))\n            '
            "self.number += 1",
        ),
        Mutant(
            "openai_resumes_one_too_late",
            "web/openai/encoder.py",
            "        if self.number > self.after:\n            self._out.append(delta",
            "        if self.number > self.after + 1:\n            self._out.append(delta",
        ),
        Mutant(
            "openai_resumes_one_too_early",
            "web/openai/encoder.py",
            "        if self.number > self.after:\n            self._out.append(delta",
            "        if self.number >= self.after:\n            self._out.append(delta",
        ),
        Mutant(
            "openai_what_was_withdrawn_goes_on_at_once",
            "web/openai/encoder.py",
            "return self.is_open and not (self.stale or self.sent.owed)",
            "return self.is_open",
        ),
        Mutant(
            "openai_a_long_piece_is_one_portion",
            "web/openai/encoder.py",
            "if isinstance(event, Piece) and len(added) < PORTION_CHARS:",
            "if isinstance(event, Piece):",
        ),
        Mutant(
            "openai_cuts_by_the_log",
            "web/openai/encoder.py",
            "        for piece in item.sent.take(PIECE_CHARS, PORTION_PIECES):\n",
            "        for piece in item.sent.take(1, PORTION_PIECES):\n",
        ),
        Mutant(
            "openai_items_interleave",
            "web/openai/encoder.py",
            "                if self._grows(number):\n                    return\n",
            "",
        ),
        Mutant(
            "openai_a_call_that_streams_is_ended",
            "web/openai/encoder.py",
            '        if part.type == "tool_call":\n            return part.fields.get("state") '
            '== "streaming"\n',
            "",
        ),
        Mutant(
            "openai_withdrawn_items_stay_open",
            "web/openai/encoder.py",
            '            if item.is_open:\n                self._close(item, "incomplete", ())\n',
            "            pass\n",
        ),
        Mutant(
            "openai_what_has_ended_goes_on",
            "web/openai/encoder.py",
            "        if item.sent.waiting and not item.is_open:\n            raise Withdrawn",
            "        if False:\n            raise Withdrawn",
        ),
        Mutant(
            "openai_shorter_text_is_not_noticed",
            "web/openai/encoder.py",
            "        item.sent.finish()\n",
            "",
        ),
        Mutant(
            "openai_restated_parts_are_appended",
            "web/openai/encoder.py",
            "        if item.stale or item.units + utf16_length(piece) != part.units:\n",
            "        if item.units + utf16_length(piece) != part.units:\n",
        ),
        Mutant(
            "openai_another_call_is_the_same_item",
            "web/openai/encoder.py",
            "        if item is not None and not item.is_of(part):\n            raise Withdrawn\n",
            "",
        ),
        Mutant(
            "openai_leftovers_are_in_the_end",
            "web/openai/encoder.py",
            "        self._drop(len(self.answer.parts))\n",
            "",
        ),
        Mutant(
            "openai_the_rest_is_dropped",
            "web/openai/encoder.py",
            "                self._writer.emit_delta(item.delta, rest)\n            self._close",
            "                pass\n            self._close",
        ),
        Mutant(
            "openai_ids_are_given_twice",
            "web/openai/encoder.py",
            "        self._counts[kind] += 1\n",
            "",
        ),
        Mutant(
            "openai_a_text_that_grows_again_is_lost",
            "web/openai/encoder.py",
            "        self._current = min(self._current, first)\n",
            "        self._current = min(self._current, touched.start)\n",
        ),
        Mutant(
            "openai_a_new_item_inside_an_open_one",
            "web/openai/encoder.py",
            "            self._drop(number)  # behind a part that had no item\n",
            "",
        ),
        Mutant(
            "openai_annotations_are_not_told",
            "web/openai/encoder.py",
            "        for index, found in enumerate(cited):\n",
            "        for index, found in enumerate(()):\n",
        ),
        Mutant(
            "openai_empty_texts_are_items",
            "web/openai/encoder.py",
            'kind is None or (kind in ("reasoning", "message") and not part.units)',
            "kind is None",
        ),
        Mutant(
            "openai_a_citation_is_where_the_answer_begins",
            "web/openai/objects.py",
            "min(max(place - text.start, 0), text.units)",
            "max(place, 0)",
        ),
        Mutant(
            "openai_a_citation_without_title",
            "web/openai/objects.py",
            '"title": title if isinstance(title, str) and title else url',
            '"title": title',
        ),
        Mutant(
            "openai_a_source_belongs_to_every_text",
            "web/openai/objects.py",
            '        if part.type == "text":\n            break\n',
            "",
        ),
        Mutant(
            "openai_an_invalid_call_is_completed",
            "web/openai/objects.py",
            '    if state == "invalid":\n        return "incomplete"\n',
            "",
        ),
        Mutant(
            "openai_whole_items_of_a_cut_answer_are_incomplete",
            "web/openai/objects.py",
            '    if not growing:\n        return "completed"\n',
            "",
        ),
        Mutant(
            "openai_who_claims_too_much_gets_no_end",
            "web/openai/encoder.py",
            "        if self._writer.known > 1:\n            self._writer.after = "
            "self._writer.number - 1\n",
            "",
        ),
        Mutant(
            "openai_a_failure_takes_a_number",
            "web/openai/encoder.py",
            '"sequence_number": self.last,',
            '"sequence_number": self.last + 1,',
        ),
        Mutant(
            "openai_a_cancelled_answer_is_complete",
            "web/openai/encoder.py",
            'known.get(status, "response.incomplete")',
            'known.get(status, "response.completed")',
        ),
        Mutant(
            "chat_a_failed_answer_is_done",
            "web/openai/encoder.py",
            "            yield _data(objects.error_body(*objects.failure(answer)))\n            "
            "return\n",
            "            pass\n",
        ),
        Mutant(
            "chat_usage_is_not_given",
            "web/openai/encoder.py",
            "        if self._include_usage:\n",
            "        if False:\n",
        ),
        Mutant(
            "chat_has_no_done", "web/openai/encoder.py", '        yield b"data: [DONE]\\n\\n"\n', ""
        ),
        Mutant(
            "chat_forgets_tool_calls",
            "web/openai/encoder.py",
            "if calls := objects.chat_calls(answer):",
            "if calls := []:",
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
            "            chunks += self._part_start(kind, kind, None) if kind not in self._open "
            "else []\n",
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
            '        if tool.done:\n            raise Misuse(f"tool call {call_id!r} has its '
            'output")\n',
            "",
        ),
        Mutant(
            "aisdk_v5_is_told_of_an_abort_reason",
            "web/aisdk/writer.py",
            'reason=None if self.profile == "v5" else reason',
            "reason=reason",
        ),
        Mutant(
            "aisdk_other_messages_are_shown",
            "web/aisdk/encoder.py",
            'self.ended or getattr(event, "message_id", None) != self.answer.id',
            "self.ended",
        ),
        Mutant(
            "aisdk_events_after_the_end",
            "web/aisdk/encoder.py",
            'self.ended or getattr(event, "message_id", None) != self.answer.id',
            'getattr(event, "message_id", None) != self.answer.id',
        ),
        Mutant(
            "aisdk_what_cannot_grow_stays_open",
            "web/aisdk/encoder.py",
            "        for number in [number for number in self._open if number not in growing]:\n",
            "        for number in []:\n",
        ),
        Mutant(
            "aisdk_reasoning_closes_the_text_it_stands_in",
            "web/aisdk/encoder.py",
            "growing = (self.answer.open_text, self.answer.open_reasoning)",
            "growing = (len(self.answer.parts) - 1,)",
        ),
        Mutant(
            "aisdk_withdrawn_calls_stay_open",
            "web/aisdk/encoder.py",
            "                chunks += self._write.tool_output_error(call.id, WITHDRAWN)\n",
            "                pass\n",
        ),
        Mutant(
            "aisdk_a_reset_forgets_calls_of_earlier_steps",
            "web/aisdk/encoder.py",
            "        self._earlier = set(self._calls)\n",
            "",
            ("tests/unit/web/aisdk/test_replay.py",),
        ),
        Mutant(
            "aisdk_pieces_follow_an_input_that_clients_forgot",
            "web/aisdk/encoder.py",
            " if call and call.open else []",
            " if call else []",
            ("tests/unit/web/aisdk/test_replay.py",),
        ),
        Mutant(
            "aisdk_what_is_kept_is_not_written_again",
            "web/aisdk/encoder.py",
            "        for number in again:\n",
            "        for number in ():\n",
        ),
        Mutant(
            "aisdk_a_reset_takes_back_other_steps",
            "web/aisdk/encoder.py",
            'if self._write.profile == "v7" and keep >= self._step:',
            'if self._write.profile == "v7":',
        ),
        Mutant(
            "aisdk_a_marked_reset_stays_in_its_step",
            "web/aisdk/encoder.py",
            '        return chunks + (self._write.start_step() if self._write.profile == "v7" '
            "else [])\n",
            "        return chunks\n",
        ),
        Mutant(
            "aisdk_an_outcome_is_told_twice",
            "web/aisdk/encoder.py",
            "state == call.state or call.over",
            "False",
        ),
        Mutant(
            "aisdk_an_input_that_is_no_object_is_executed",
            "web/aisdk/encoder.py",
            '        if state == "invalid" or value is None:\n',
            "        if value is None:\n",
        ),
        Mutant(
            "aisdk_an_outcome_without_its_input",
            "web/aisdk/encoder.py",
            '        if call.state == "streaming":\n',
            "        if False:\n",
        ),
        Mutant(
            "aisdk_a_changed_part_is_shown_again",
            "web/aisdk/encoder.py",
            "self._whole(number) if is_new or part.type in _CHANGED else []",
            "self._whole(number)",
        ),
        Mutant(
            "aisdk_changed_data_is_not_shown",
            "web/aisdk/encoder.py",
            '_CHANGED = ("tool_call", "data")',
            '_CHANGED = ("tool_call",)',
        ),
        Mutant(
            "aisdk_usage_is_not_told",
            "web/aisdk/encoder.py",
            "        if event.usage is not None:\n",
            "        if False:\n",
        ),
        Mutant(
            "aisdk_a_provider_part_reaches_v5",
            "web/aisdk/parts.py",
            'case "provider" if write.profile == "v7" and have',
            'case "provider" if have',
        ),
        Mutant(
            "text_of_a_withdrawn_answer_goes_on",
            "web/aisdk/completions.py",
            "            self._sent.become(self.answer.content)\n",
            "            pass\n",
        ),
        Mutant(
            "text_that_is_too_short_is_whole",
            "web/aisdk/completions.py",
            "            self._sent.finish()\n",
            "            pass\n",
        ),
        Mutant(
            "sse_the_opening_is_told_again",
            "web/events/encoder.py",
            "        self._sent = begins\n",
            "",
            ("tests/unit/web/events/test_encoder.py",),
        ),
    ],
)
