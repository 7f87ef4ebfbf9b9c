"""Parameters of an answer: sent under the provider's name, or refused by their own."""

from tests.mutants.mutant import Area, Mutant

UNIT = ("tests/unit/providers/test_parameters.py",)
WEB = ("tests/unit/web/test_parameters.py",)

AREA = Area(
    "parameters",
    UNIT,
    [
        Mutant(
            "a_refused_parameter_is_dropped",
            "providers/content.py",
            "    if refused := parameters.refusal(values, api, wire):\n",
            "    if False and (refused := parameters.refusal(values, api, wire)):\n",
        ),
        Mutant(
            "seed_does_not_reach_gemini",
            "providers/parameters.py",
            '        "seed": "generationConfig.seed",\n',
            '        "seed": "ignored",\n',
        ),
        Mutant(
            "a_range_of_an_api_does_not_count",
            "providers/parameters.py",
            "_RANGES.get(api, {}).get(name)",
            "_RANGES.get(api, {}).get(api)",
        ),
        Mutant(
            "what_an_api_refuses_together_is_sent",
            "providers/parameters.py",
            "_APART.get(api, {}).get(name, frozenset())",
            "_APART.get(api, {}).get(api, frozenset())",
        ),
        Mutant(
            "a_default_is_refused",
            "providers/parameters.py",
            "if name in _NEUTRAL and value == _NEUTRAL[name]:",
            "if False:",
        ),
        Mutant(
            "an_entry_replaces_the_table_of_its_preset",
            "providers/parameters.py",
            "if own is None or own.api != api else",
            "if own is None or spec.options or own.api != api else",
        ),
        Mutant(
            "web_checks_no_parameter_of_a_post",
            "web/api/routes.py",
            '    services.offers.require_taken(model, options, "body.options")\n'
            "    await require_schema",
            "    await require_schema",
            WEB,
        ),
        Mutant(
            "unknown_names_are_dropped_for_openai",
            "web/openai/requests.py",
            "refused = name not in known and wanted is not None",
            "refused = False",
            WEB,
        ),
        Mutant(
            "an_answer_made_again_loses_its_parameters",
            "models/chats.py",
            "        row.options, row.tools = earlier.options, earlier.tools\n",
            "        row.tools = earlier.tools\n",
            WEB,
        ),
    ],
)
