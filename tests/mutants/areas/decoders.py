"""What providers send, as deltas: tool calls above all, proof of completion, failures."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "decoders",
    ("tests/unit/providers",),
    [
        Mutant(
            "tool_call_ids_are_ignored",
            "providers/tool_calls.py",
            "        if id and (call := self._by_id.get(id)):\n            return call\n",
            "",
        ),
        Mutant(
            "pieces_go_to_the_latest_call",
            "providers/tool_calls.py",
            "call = self._by_key.get(key)\n            return None if",
            "call = self._calls[-1] if self._calls else None\n            return None if",
        ),
        Mutant(
            "chat_does_not_read_the_id_of_a_call",
            "providers/openai_chat.py",
            'self._tools.piece(index, call.get("id"), function',
            "self._tools.piece(index, None, function",
        ),
        Mutant(
            "responses_does_not_read_the_id_of_a_call",
            "providers/openai_responses.py",
            'key, item.get("call_id") or item.get("id"), item',
            'key, item.get("id"), item',
        ),
        Mutant(
            "anthropic_does_not_read_the_id_of_a_call",
            "providers/anthropic.py",
            'self._tools.piece(index, value.get("id"), value.get("name"), None)',
            'self._tools.piece(index, None, value.get("name"), None)',
        ),
        Mutant(
            "gemini_does_not_read_the_id_of_a_call",
            "providers/gemini.py",
            'self._tools.piece(self._calls, call.get("id"), call.get("name"), None, echo)',
            'self._tools.piece(self._calls, None, call.get("name"), None, echo)',
        ),
        Mutant(
            "ollama_does_not_read_the_id_of_a_call",
            "providers/ollama.py",
            'self._tools.piece(None, call.get("id"), function',
            "self._tools.piece(None, None, function",
        ),
        Mutant(
            "a_call_without_arguments_has_none",
            "providers/tool_calls.py",
            '            self._give(ToolCallArguments(call.index, "{}"))',
            "            pass",
        ),
        Mutant(
            "arguments_are_taken_twice",
            "providers/tool_calls.py",
            "        if call and not (call.pieces or call.argued):\n            self.piece(",
            "        if call:\n            self.piece(",
        ),
        Mutant(
            "a_later_reason_replaces_a_stronger",
            "providers/decoding.py",
            'if self.finish_reason in (None, "stop", "unknown"):',
            "if True:",
        ),
        Mutant(
            "usage_replaces_what_was_known",
            "providers/decoding.py",
            "self._usage = usage if self._usage is None else merge_usage(self._usage, usage)",
            "self._usage = usage",
        ),
        Mutant(
            "a_failure_replaces_the_proof",
            "providers/decoding.py",
            "        if self._outcome is None:\n            self._outcome = error",
            "        if True:\n            self._outcome = error",
        ),
        Mutant(
            "a_proof_replaces_the_failure",
            "providers/decoding.py",
            "        if self._outcome is not None:\n            return\n        if self._stray:",
            "        if self._stray:",
        ),
        Mutant(
            "arguments_before_the_name_are_lost",
            "providers/tool_calls.py",
            '        if name or call.started:\n            self._give_on(call, name or "")',
            '        if name or call.started:\n            self._give_on(call, name or "")\n        else:\n            call.pieces.clear()',
        ),
        Mutant(
            "a_source_is_cited_twice",
            "providers/decoding.py",
            "        if not url or url in self._sources:\n",
            "        if not url:\n",
        ),
        Mutant(
            "several_lines_in_a_frame_are_lost",
            "providers/decoding.py",
            '        lines = data.split(b"\\n")\n',
            '        lines = data.split(b"\\n")[:1]\n',
        ),
        Mutant(
            "an_event_is_held_again_for_each_piece",
            "providers/decoding.py",
            "        self._frame_bytes = 0  # each event counts once\n",
            "",
            ("tests/unit/providers/test_bounds.py",),
        ),
        Mutant(
            "the_size_of_events_adds_up",
            "providers/framing.py",
            "            self._data = []\n            self._size = 0\n",
            "            self._data = []\n",
            ("tests/unit/providers/test_framing.py",),
        ),
        Mutant(
            "a_wait_inside_a_stream_is_ignored",
            "providers/classify.py",
            "status=detail.status, retry_after_s=retry_after({}, item))",
            "status=detail.status)",
            ("tests/unit/providers/test_classify.py",),
        ),
        Mutant(
            "keep_alive_zero_is_none",
            "providers/ollama.py",
            'if "keep_alive" in quirks:',
            'if quirks.get("keep_alive"):',
            ("tests/unit/providers/test_requests.py",),
        ),
    ],
)
