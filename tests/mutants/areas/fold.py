"""The fold, its inverse, kept values, and the merging of pieces that belong to parts."""

from tests.mutants.mutant import Area, Mutant

FOLD, REPLAY, KEPT = "protocol/fold.py", "protocol/replay.py", "protocol/kept.py"
REWIND, STATES = "protocol/rewind.py", "protocol/states.py"

AREA = Area(
    "fold",
    ("tests/unit/protocol",),
    [
        Mutant(
            "a_part_that_has_ended_grows",
            FOLD,
            "            if number != self._open[kind]:\n",
            "            if number < 0:\n",
        ),
        Mutant(
            "an_overlap_is_doubled",
            FOLD,
            "    return content[len(_cut(content, known)) :]\n",
            "    return content\n",
        ),
        Mutant(
            "a_piece_that_is_held_is_a_hole_in_an_ended_part",
            FOLD,
            "        if rest := _beyond(part.start + part.units, piece):\n            if number",
            "        rest = _beyond(part.start + part.units, piece)\n        if True:\n         "
            "   if number",
        ),
        Mutant(
            "a_gap_is_closed_in_silence",
            FOLD,
            "    if known < 0 or piece.offset < 0:\n",
            "    if piece.offset < 0:\n",
        ),
        Mutant(
            "a_complete_input_grows",
            FOLD,
            "            if not part.streams_input:\n",
            '            if part.fields.get("state") is None:\n',
        ),
        Mutant(
            "an_inner_part_ends_the_text",
            FOLD,
            '        if "at" not in part.fields:\n            self._open',
            "        if True:\n            self._open",
        ),
        Mutant(
            "no_part_ends_the_text",
            FOLD,
            '        if "at" not in part.fields:\n            self._open',
            "        if False:\n            self._open",
        ),
        Mutant(
            "what_a_reset_left_cannot_grow",
            FOLD,
            "        self.parts = kept\n        self._open, self._last = _open_of(kept), "
            "_last_of(kept)\n",
            "        self.parts = kept\n        self._last = _last_of(kept)\n",
        ),
        Mutant(
            "a_reset_forgets_to_shorten_the_streams",
            FOLD,
            "        self.parts = kept\n        self._open, self._last = _open_of(kept), "
            "_last_of(kept)\n",
            "        self.parts = kept\n        self._open = _open_of(kept)\n",
        ),
        Mutant(
            "a_reset_that_disagrees_is_taken",
            FOLD,
            "    if surplus < 0 or number is None or surplus > parts[number].units:\n        raise",
            "    if number is None:\n        return ()\n    if surplus < 0:\n        raise",
        ),
        Mutant(
            "a_reset_cuts_before_it_has_checked_the_reasoning",
            FOLD,
            '        shorter = [*_shortened(kept, "text", event.keep)]\n',
            '        shorter = [*_shortened(kept, "text", event.keep)]\n        self.parts = '
            "kept\n",
        ),
        Mutant(
            "a_reset_touches_nothing",
            FOLD,
            "        return range(min([event.keep_parts, *(number for number, _ in shorter)]), "
            "held)\n",
            "        return NOTHING\n",
        ),
        Mutant(
            "a_cut_part_is_not_touched",
            FOLD,
            "range(min([event.keep_parts, *(number for number, _ in shorter)]), held)",
            "range(event.keep_parts, held)",
        ),
        Mutant(
            "a_merge_replaces_all_fields",
            FOLD,
            "        streamed = self.type in _STREAMED\n        for name",
            "        streamed = self.type in _STREAMED\n        self.fields = {}\n        for name",
        ),
        Mutant(
            "null_is_a_value",
            FOLD,
            "            elif item is None:\n",
            '            elif item == "":\n',
        ),
        Mutant(
            "a_second_end_is_checked",
            FOLD,
            "event.message_id == self.id and not self.ended:\n",
            "event.message_id == self.id:\n",
        ),
        Mutant(
            "an_ended_answer_grows",
            FOLD,
            "            if event.message_id != self.id or self.status in _ENDED:",
            "            if event.message_id != self.id:",
        ),
        Mutant(
            "a_hole_is_passed_over_on_the_way_back",
            REWIND,
            "            if event.part not in cuts and ends.get(event.part) != event.offset:\n",
            "            if event.part not in cuts and ends.get(event.part, 0) < event.offset - "
            "99:\n",
        ),
        Mutant(
            "each_piece_cuts_on_the_way_back",
            REWIND,
            "            cuts.setdefault(event.part, event.offset)\n",
            "            cuts[event.part] = event.offset\n",
        ),
        Mutant(
            "an_answer_before_its_end_has_ended",
            REWIND,
            '    earlier.status, earlier.finish_reason = "streaming", None\n',
            "",
        ),
        Mutant(
            "calls_that_were_cut_off_were_always_invalid",
            REWIND,
            '    if any(part.fields.get("state") in _OF_ENDS for part in answer.parts):\n',
            "    if False:\n",
        ),
        Mutant(
            "a_reset_says_where_texts_ended",
            REWIND,
            "            ends.clear()\n",
            "            pass\n",
        ),
        Mutant(
            "the_text_of_an_ended_answer_grows",
            FOLD,
            "        if piece.message_id != self.id or self.status in _ENDED:",
            "        if piece.message_id != self.id:",
        ),
        Mutant(
            "a_text_begins_where_the_answer_does",
            FOLD,
            "            part.start = self._end_of(part.type)\n",
            "            part.start = 0\n",
        ),
        Mutant(
            "a_piece_that_is_no_next_one_is_appended",
            FOLD,
            "            if content and piece.offset == part.start + part.units:\n",
            "            if content:\n",
        ),
        Mutant(
            "parts_are_not_proven",
            FOLD,
            "        return proof[2:] == (event.parts, event.parts_crc32)\n",
            "        return True\n",
        ),
        Mutant(
            "inputs_are_not_proven",
            FOLD,
            '            if part.type in ("reasoning", "tool_call"):\n                text',
            '            if part.type in ("reasoning",):\n                text',
        ),
        Mutant(
            "text_that_no_length_names_is_lost",
            FOLD,
            "        if rest := stream.take():\n            answer.add(Part(kind, {}, "
            "text=rest))\n",
            "        if kind not in streams:\n            answer.add(Part(kind, {}, "
            "text=stream.take()))\n",
        ),
        Mutant(
            "a_copy_shares_its_parts",
            FOLD,
            "list(self.seams), [part.copy() for part in self.parts]",
            "list(self.seams), list(self.parts)",
        ),
        Mutant(
            "what_cannot_become_the_other_is_kept",
            REPLAY,
            "    if keep < len(have.parts):\n",
            "    if keep == 0 and have.parts:\n",
        ),
        Mutant(
            "a_grown_text_is_sent_behind_what_ended_it",
            REPLAY,
            "        if (growing and ends) or not _may_become(held, wanted):\n",
            "        if not _may_become(held, wanted):\n",
        ),
        Mutant(
            "a_text_is_not_split_at_inner_parts",
            REPLAY,
            "self._text_until(at if inside and isinstance(at, int) else None)",
            "self._text_until(None)",
        ),
        Mutant(
            "a_call_is_complete_before_its_input",
            REPLAY,
            '    return {**known, "state": "streaming"}\n',
            "    return {**part.fields}\n",
        ),
        Mutant(
            "a_removed_field_stays",
            REPLAY,
            "    changed |= dict.fromkeys(name for name in old if name not in new)\n",
            "",
        ),
        Mutant(
            "one_is_true",
            REPLAY,
            "(old[name] is not item and _json(old[name]) != _json(item))",
            "old[name] != item",
        ),
        Mutant(
            "values_travel_in_one_event",
            REPLAY,
            "            if size and size + weight > events.MAX_EVENT_TEXT_BYTES:\n",
            "            if size < 0:\n",
        ),
        Mutant(
            "the_end_is_not_said_again",
            REPLAY,
            "        return [*needed, terminal_event(want, attempt)]\n",
            "        return needed\n",
        ),
        Mutant(
            "a_row_that_waits_is_told_as_one_that_works",
            REPLAY,
            "        return [events.Wait(want.id, attempt)] if changed or",
            "        return [] if changed or",
        ),
        Mutant(
            "a_reader_waits_on_beside_a_row_that_works",
            REPLAY,
            '    if have.status != "waiting" or changed:\n',
            "    if True:\n",
        ),
        Mutant(
            "a_state_comes_before_its_result",
            REPLAY,
            'return changed | {"state": changed.pop("state")} if "state" in changed else changed',
            "return changed",
        ),
        Mutant(
            "the_end_withdraws_what_runs",
            STATES,
            '    "running": "unknown",\n',
            '    "running": "withdrawn",\n',
        ),
        Mutant(
            "the_end_leaves_calls_to_a_caller_whatever_its_reason",
            STATES,
            '(runs_at == "caller" and reason == "tool_calls")',
            'runs_at == "caller"',
        ),
        Mutant(
            "calls_of_failed_answers_stay",
            STATES,
            'state == "proposed" and status == "complete" and is_callers',
            'state == "proposed" and is_callers',
        ),
        Mutant(
            "a_closed_call_expires",
            FOLD,
            'part.merge({"state": state, "expires_at": None})',
            'part.merge({"state": state})',
        ),
        Mutant(
            "a_conversation_that_waits_is_told_as_running",
            "web/feed/changes.py",
            'return "waiting" if self.status == "waiting" else "running"',
            'return "running"',
            ("tests/unit/web/feed/test_changes.py",),
        ),
        Mutant(
            "a_wait_counts_as_work",
            "protocol/events.py",
            "and member not in (Wait, *TERMINAL)",
            "and member not in TERMINAL",
        ),
        Mutant(
            "what_is_held_does_not_end_the_waiting",
            FOLD,
            "        self._end_waiting()\n        return added\n",
            "        return added\n",
        ),
        Mutant(
            "who_waited_was_never_waiting",
            REWIND,
            '        earlier.status = "waiting"\n',
            "        pass\n",
        ),
        Mutant(
            "half_a_unit_is_a_place",
            KEPT,
            "        if place < 0 or place % 2:",
            "        if place < 0:",
        ),
        Mutant(
            "a_name_like_a_reference_is_one",
            KEPT,
            '    return f"${name}" if _ESCAPED.fullmatch(name) else name\n',
            "    return name\n",
        ),
        Mutant(
            "pieces_of_two_parts_are_merged",
            "protocol/frames.py",
            "            or piece.part != first.part\n",
            "",
            ("tests/unit/protocol/test_frames.py",),
        ),
        Mutant(
            "a_merged_piece_loses_its_part",
            "protocol/frames.py",
            "            first.part,\n",
            "",
            ("tests/unit/protocol/test_frames.py",),
        ),
    ],
)
