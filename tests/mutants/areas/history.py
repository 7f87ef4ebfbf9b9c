"""Histories for providers: parts in order, kept values with their part."""

from tests.mutants.mutant import Area, Mutant

_REQUESTS = ("tests/unit/providers/test_requests.py",)
_PARTS = ("tests/unit/worker/test_history.py", "tests/unit/worker/attempt/test_parts.py")
AREA = Area(
    "history",
    (*_REQUESTS, *_PARTS),
    [
        Mutant(
            "roles_do_not_alternate",
            "providers/content.py",
            "    if alternating:\n",
            "    if False:\n",
            _REQUESTS,
        ),
        Mutant(
            "joined_messages_lose_their_border",
            "providers/content.py",
            'line = [TextPart("\\n\\n")] if texts else []',
            "line = []",
            _REQUESTS,
        ),
        Mutant(
            "a_citation_of_no_words_gives_an_empty_text",
            "providers/collected.py",
            "isinstance(last, TextPart) or start == 0 or end != 0",
            "isinstance(last, TextPart) or cites is None or end != 0",
            ("tests/unit/providers/test_collected.py",),
        ),
        Mutant(
            "kept_values_go_to_every_model",
            "providers/content.py",
            "mine = message.model in (None, model)",
            "mine = True",
        ),
        Mutant(
            "kept_parts_go_to_every_dialect",
            "providers/content.py",
            "fits = mine and part.dialect == dialect and sent_alone(part)",
            "fits = mine and sent_alone(part)",
        ),
        Mutant(
            "kept_values_of_parts_go_to_every_dialect",
            "providers/content.py",
            "fits = mine and kept is not None and kept.dialect == dialect",
            "fits = mine and kept is not None",
        ),
        Mutant(
            "what_stood_beside_is_sent",
            "providers/content.py",
            'return kept.value.get("type") == kept.kind',
            "return True",
        ),
        Mutant(
            "texts_that_touch_stay_apart",
            "providers/content.py",
            "        if isinstance(part, TextPart) and not part.kept:\n",
            "        if False:\n",
        ),
        Mutant(
            "a_call_without_a_result_is_open",
            "protocol/outcomes.py",
            "    return None if sentence is None else (sentence, True)\n",
            "    return None\n",
            ("tests/unit/worker/test_history.py",),
        ),
        Mutant(
            "a_result_that_is_null_is_none",
            "protocol/outcomes.py",
            'if "result" in call or state == "done":',
            'if "result" in call:',
            ("tests/unit/worker/test_history.py",),
        ),
        Mutant(
            "a_step_is_no_border",
            "providers/content.py",
            "    for part in (*message.parts, StepPart()):\n",
            "    parts = [part for part in message.parts if not isinstance(part, StepPart)]\n"
            "    for part in (*parts, StepPart()):\n",
        ),
        Mutant(
            "a_call_without_a_result_has_none",
            "providers/content.py",
            "    if calls:\n        results",
            "    if False:\n        results",
        ),
        Mutant(
            "every_call_is_without_a_result",
            "providers/content.py",
            "                    waiting.pop(part.call_id, None)\n",
            "                    pass\n",
        ),
        Mutant(
            "a_failed_tool_has_succeeded",
            "providers/anthropic.py",
            'return {**result, "is_error": True} if part.error else result',
            "return result",
        ),
        Mutant(
            "citations_stay_behind",
            "providers/anthropic.py",
            'citations = {"citations": [item.value for item in kept]} if kept else {}',
            "citations: dict[str, Any] = {}",
        ),
        Mutant(
            "a_citation_supports_all_of_the_text",
            "providers/anthropic.py",
            'cites=(block.units, 0) if block.kind == "text" else None',
            "cites=None",
        ),
        Mutant(
            "unsigned_thinking_goes_back",
            "providers/anthropic.py",
            "self._end_thought(value if signed else None)",
            "self._end_thought(value)",
        ),
        Mutant(
            "who_calls_is_forgotten",
            "providers/anthropic.py",
            'value.get("name"), None, extra)',
            'value.get("name"), None)',
        ),
        Mutant(
            "names_that_reasoning_spoke_of_are_sent",
            "providers/openai_responses_request.py",
            "        if self._named:\n",
            "        if True:\n",
        ),
        Mutant(
            "reasoning_that_nothing_follows_is_sent",
            "providers/openai_responses_request.py",
            "            self._items.pop()\n",
            "            break\n",
        ),
        Mutant(
            "a_message_is_sent_beside_its_text",
            "providers/openai_responses_request.py",
            "            self._text = self._text[: len(self._text) - len(text)]\n",
            "",
        ),
        Mutant(
            "a_message_behind_reasoning_is_only_text",
            "providers/openai_responses.py",
            "if self._thought or _needs_keeping(item, content):",
            "if _needs_keeping(item, content):",
        ),
        Mutant(
            "a_message_that_says_more_is_only_text",
            "providers/openai_responses.py",
            "if self._thought or _needs_keeping(item, content):",
            "if self._thought:",
        ),
        Mutant(
            "what_waits_for_the_client_is_sent",
            "providers/openai_responses_request.py",
            "return [dict(value)] if self._has_its_answer(part) else []",
            "return [dict(value)]",
        ),
        Mutant(
            "a_signature_stands_at_a_thought",
            "providers/gemini.py",
            'if parts and parts[-1].keys() == {"text"}:',
            'if parts and "text" in parts[-1]:',
        ),
        Mutant(
            "the_result_of_a_named_call_has_no_name",
            "providers/gemini.py",
            'named_so = {"id": id} if id in named else {}',
            "named_so: dict[str, Any] = {}",
        ),
        Mutant(
            "thoughts_before_a_call_are_replaced",
            "providers/openai_chat_request.py",
            'item["reasoning_content"] = "".join(contents)',
            'item["reasoning_content"] = contents[-1]',
        ),
        Mutant(
            "a_place_counts_characters",
            "providers/passages.py",
            "return self.chars - char + len(self._wide) - bisect_left(self._wide, char)",
            "return self.chars - char",
        ),
        Mutant(
            "half_of_the_kept_values_go_back",
            "worker/history.py",
            "        if is_lost(part):\n            return {}\n",
            "",
        ),
        Mutant(
            "a_file_that_is_lost_loses_nothing_else",
            "worker/history.py",
            "        except ValueError:\n            return {}\n",
            "        except ValueError:\n            continue\n",
        ),
        Mutant(
            "a_citation_ends_the_text_that_it_stands_in",
            "worker/attempt/parts.py",
            "        if is_inside:\n",
            "        if False:\n",
        ),
        Mutant(
            "a_second_thought_extends_the_first",
            "worker/attempt/parts.py",
            "        number, self._reasoning = self._reasoning, None\n",
            "        number = self._reasoning\n",
        ),
    ],
)
