"""Answers with a schema."""

from tests.mutants.mutant import Area, Mutant

BUSY = "tests/unit/web/api/test_messages.py"
OBJECTS = "tests/integration/test_objects.py"

AREA = Area(
    "structured",
    (
        "tests/unit/worker/test_schemas.py",
        "tests/contracts/test_repairs.py",
        "tests/integration/attempt/test_documents.py",
    ),
    [
        Mutant(
            "every_misfit_is_repaired",
            "worker/attempt/checking.py",
            "if not work.is_misfit or work.row.misfit is not None:",
            "if not work.is_misfit:",
        ),
        Mutant(
            "every_schema_is_strict",
            "providers/schema_forms.py",
            '"strict": form is not None',
            '"strict": True',
            ("tests/unit/providers/test_schema_forms.py",),
        ),
        Mutant(
            "objects_stay_open",
            "providers/schema_forms.py",
            'return {**found, "additionalProperties": False}',
            "return found",
            ("tests/unit/providers/test_schema_forms.py",),
        ),
        Mutant(
            "a_crash_forgets_the_misfit",
            "models/repairs.py",
            "values(misfit=misfit, updated_at",
            "values(updated_at",
        ),
        Mutant(
            "who_lost_the_answer_stores_a_misfit",
            "models/repairs.py",
            "if row is None:",
            "if False:",
        ),
        Mutant(
            "a_misfit_brings_an_older_text_back",
            "models/repairs.py",
            "if row.saves <= checkpoint.saves:",
            "if True:",
        ),
        Mutant(
            "no_schema_is_that_of_the_conversation",
            "models/conversations.py",
            "if post.response_schema is None and post.inherits_schema:",
            "if post.response_schema is None:",
            ("tests/unit/web/api/test_tools.py",),
        ),
        Mutant(
            "no_schema_and_no_field_are_one_request",
            "web/api/shapes.py",
            'found | ({"schema_": False} if no_schema else {})',
            "found",
            ("tests/unit/web/api/test_tools.py",),
        ),
        Mutant(
            "a_misfit_stays_before_its_repair",
            "worker/attempt/run.py",
            "        self.draft.withdraw()\n",
            "",
        ),
        Mutant(
            "a_document_that_was_cut_off_is_a_misfit",
            "worker/attempt/work.py",
            " and self.draft.finish_reason() in JUDGED",
            "",
        ),
        Mutant(
            "earlier_rounds_are_part_of_the_document",
            "worker/attempt/structured.py",
            "turn = parts[last_round(parts) :]",
            "turn = parts",
        ),
        Mutant(
            "a_repair_may_call_tools",
            "worker/attempt/work.py",
            '        return "none"\n',
            "        return question.tool_choice\n",
        ),
        Mutant(
            "a_whole_document_shows_its_first_try",
            "web/aisdk/completions.py",
            "        elif isinstance(event, Chunk) and not self.whole:\n",
            "        elif isinstance(event, Chunk):\n",
            (OBJECTS,),
        ),
        Mutant(
            "a_slow_document_is_silent",
            "web/aisdk/completions.py",
            "            if encoder.whole and time",
            "            if False and time",
            (OBJECTS,),
        ),
        Mutant(
            "white_space_is_no_beginning",
            "web/aisdk/completions.py",
            "        self.begun = True\n        return b",
            "        return b",
            (OBJECTS,),
        ),
        Mutant(
            "a_schema_without_bottom_escapes",
            "worker/schemas.py",
            "        except (RecursionError, ValueError, TypeError) as error:\n",
            "        except TypeError as error:\n",
        ),
        Mutant(
            "a_check_may_wait_for_ever",
            "worker/schemas.py",
            "            timeout=LONGEST_SECONDS,\n",
            "            timeout=60,\n",
        ),
        Mutant(
            "a_check_may_compute_for_ever",
            "worker/schema_process.py",
            'ITIMER_PROF, asked["cpu_seconds"])',
            "ITIMER_PROF, 60)",
        ),
        Mutant(
            "a_busy_machine_refuses_a_schema",
            "web/contents.py",
            "    except schemas.Unchecked as error:\n",
            "    except ZeroDivisionError as error:\n",
            (BUSY,),
        ),
        Mutant(
            "a_reference_to_itself_is_a_schema",
            "worker/schema_process.py",
            "            elif id(one) in under_way:\n                return place\n",
            "            elif id(one) in under_way:\n                continue\n",
        ),
        Mutant(
            "a_name_in_a_schema_means_its_root",
            "worker/schema_process.py",
            '        if fragment and not fragment.startswith("/"):\n',
            "        if False:\n",
        ),
        Mutant(
            "a_loop_hides_behind_percent_signs",
            "worker/schema_process.py",
            "unquote(reference[1:])",
            "reference[1:]",
        ),
        Mutant(
            "a_loop_hides_in_a_list",
            "worker/schema_process.py",
            "            if isinstance(value, list):\n",
            "            if value == 0:\n",
        ),
        Mutant(
            "an_identifier_begins_no_schema",
            "worker/schema_process.py",
            "                root = value\n",
            "                pass\n",
        ),
        Mutant(
            "numbers_that_json_lacks_are_stored",
            "worker/schema_process.py",
            "allow_nan=False, ",
            "",
        ),
    ],
)
