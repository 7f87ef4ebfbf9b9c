"""What providers send, as deltas: tool calls above all, proof of completion, failures."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "decoders",
    ("tests/unit/providers",),
    [
        Mutant(
            "tool_call_ids_are_ignored",
            "providers/decoding.py",
            "                if call.id == id:\n                    return call\n",
            "                pass\n",
        ),
        Mutant(
            "pieces_go_to_the_latest_call",
            "providers/decoding.py",
            "if call.key == key and not (id and call.id and name):",
            "if True:",
        ),
        Mutant(
            "chat_does_not_read_the_id_of_a_call",
            "providers/openai_chat.py",
            'self._tools.piece(call.get("index"), call.get("id"), function',
            'self._tools.piece(call.get("index"), None, function',
        ),
        Mutant(
            "responses_does_not_read_the_id_of_a_call",
            "providers/openai_responses.py",
            'item.get("call_id") or item.get("id")',
            'item.get("id")',
        ),
        Mutant(
            "anthropic_does_not_read_the_id_of_a_call",
            "providers/anthropic.py",
            'self._tools.piece(index, block.get("id"), block.get("name"), None)',
            'self._tools.piece(index, None, block.get("name"), None)',
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
            "providers/decoding.py",
            '            self._give(ToolCallArguments(call.index, "{}"))',
            "            pass",
        ),
        Mutant(
            "arguments_are_taken_twice",
            "providers/decoding.py",
            "        if call and not call.pieces:\n            self.piece(",
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
            "a_failure_after_text_is_no_interruption",
            "providers/decoding.py",
            "self.failure = as_interrupted(error) if visible else error",
            "self.failure = error",
        ),
        Mutant(
            "the_first_failure_does_not_count",
            "providers/decoding.py",
            "        if self.failure is not None or self.done:\n            return\n",
            "",
        ),
        Mutant(
            "a_source_is_cited_twice",
            "providers/decoding.py",
            "        if url and url not in self._sources:\n",
            "        if url:\n",
        ),
        Mutant(
            "several_lines_in_a_frame_are_lost",
            "providers/decoding.py",
            "            for line in lines:\n                self._decode_one(name, line)\n            return\n",
            "            return\n",
        ),
    ],
)
