"""Where a continued answer meets the held text: overlaps and start-overs."""

from tests.mutants.mutant import Area, Mutant

AREA = Area(
    "seams",
    (
        "tests/unit/providers/test_openings.py",
        "tests/unit/providers/test_seams.py",
        "tests/integration/providers/test_continuing.py",
    ),
    [
        Mutant(
            "only_long_openings_count", "providers/openings.py", "_ENOUGH = 3.0", "_ENOUGH = 60.0"
        ),
        Mutant("two_words_are_enough", "providers/openings.py", "_ENOUGH = 3.0", "_ENOUGH = 2.0"),
        Mutant(
            "a_sentence_needs_no_more",
            "providers/openings.py",
            "_ENOUGH_BEHIND_A_SENTENCE = 6.0",
            "_ENOUGH_BEHIND_A_SENTENCE = 3.0",
        ),
        Mutant(
            "a_line_is_a_sentence",
            "providers/openings.py",
            '    if "\\n" in held[len(bare) :] + lead:',
            "    if False:",
        ),
        Mutant(
            "an_item_is_an_opening",
            "providers/openings.py",
            "    if _ITEM.match(opening):",
            "    if False:",
        ),
        Mutant(
            "an_exclamation_is_nothing_special",
            "providers/openings.py",
            "    if _EXCLAMATION.match(opening):",
            "    if False:",
        ),
        Mutant(
            "a_refrain_is_an_opening",
            "providers/openings.py",
            ' or "\\n" + opening.rstrip() in bare:',
            ":",
        ),
        Mutant(
            "an_anaphora_is_an_opening",
            "providers/openings.py",
            'float("inf") if opening.rstrip() in bare[1:] else _ENOUGH_BEHIND_A_SENTENCE',
            "_ENOUGH_BEHIND_A_SENTENCE",
        ),
        Mutant(
            "a_name_is_many_words",
            "providers/openings.py",
            'len(_NAME.sub("C", shape))',
            "len(shape)",
        ),
        Mutant(
            "part_of_a_word_counts",
            "providers/openings.py",
            "        length -= 1\n",
            "        break\n",
        ),
        Mutant(
            "an_emoji_is_cut",
            "providers/openings.py",
            """(
        character.isalnum()
        or character == "_"
        or category(character) == "So"
        or _is_mark(character)
    )""",
            'character.isalnum() or character == "_"',
        ),
        Mutant(
            "unspaced_scripts_have_few_words",
            "providers/openings.py",
            "found += count / word",
            "found += 0",
        ),
        Mutant(
            "each_sign_is_a_word",
            "providers/openings.py",
            "found += count / word",
            "found += count",
        ),
        Mutant(
            "any_end_is_open", "providers/openings.py", "    if _is_open(bare[-1]):", "    if True:"
        ),
        Mutant(
            "an_echo_is_compared_again_with_each_piece",
            "providers/seams.py",
            "        self._pieces.append(piece)\n",
            "        self._pieces = [self._waiting() + piece]\n",
            ("tests/unit/providers/test_seams.py",),
        ),
        Mutant(
            "any_piece_goes_on_with_an_echo",
            "providers/seams.py",
            " and self._start[at : at + len(within)] == within",
            "",
            ("tests/unit/providers/test_seams.py",),
        ),
        Mutant(
            "a_cut_start_over_is_said", "providers/seams.py", "began_anew(self._held, text) or ", ""
        ),
        Mutant(
            "the_end_said_again_is_a_start_over",
            "providers/seams.py",
            "return not _overlap(held.strip(), text.lstrip()) and ",
            "return ",
        ),
        Mutant(
            "white_space_hides_a_start_over",
            "providers/seams.py",
            'self._start = held.lstrip() if rung == "turn" else held',
            "self._start = held",
        ),
    ],
)
