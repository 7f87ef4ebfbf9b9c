"""The model catalogue: what is checked, what is left out, and that no line shows a value."""

from tests.mutants.mutant import Area, Mutant

_CATALOGUE = "providers/catalogue.py"
_SPEC = "providers/spec.py"

AREA = Area(
    "catalogue",
    (
        "tests/unit/providers/test_catalogue.py",
        "tests/unit/providers/test_spec.py",
        "tests/unit/providers/test_any_catalogue.py",
        "tests/unit/providers/test_registry.py",
    ),
    [
        Mutant(
            "an_entry_without_its_key_is_not_checked",
            _CATALOGUE,
            "    spec = _checked(name, given, path)\n",
            "    if lacking:\n"
            '        return ModelSpec(name, "demo", name), next(iter(lacking.values()))\n'
            "    spec = _checked(name, given, path)\n",
        ),
        Mutant(
            "a_variable_names_the_provider",
            _CATALOGUE,
            'frozenset(_ENTRY_KEYS) - {"provider"}',
            "frozenset(_ENTRY_KEYS)",
        ),
        Mutant(
            "an_empty_variable_is_a_key",
            _CATALOGUE,
            "if key is None:",
            "if variable not in environ:",
        ),
        Mutant(
            "an_empty_variable_is_expanded",
            _CATALOGUE,
            "if not environ.get(name):",
            "if name not in environ:",
        ),
        Mutant(
            "an_entry_may_lack_its_address",
            _CATALOGUE,
            'if "base_url" not in lacking and lacks_address(spec, preset):',
            "if False:",
        ),
        Mutant(
            "an_address_that_is_missing_is_a_mistake",
            _CATALOGUE,
            '"base_url" not in lacking and ',
            "",
        ),
        Mutant(
            "yaml_quotes_the_file",
            _CATALOGUE,
            '_QUOTED.sub("...", error.problem)',
            "error.problem",
        ),
        Mutant(
            "what_holds_itself_ends_in_a_traceback",
            _CATALOGUE,
            "        except RecursionError:\n            raise CatalogueError(path, name, key",
            "        except ZeroDivisionError:\n            raise CatalogueError(path, name, key",
        ),
        Mutant(
            "a_date_that_is_none_ends_in_a_traceback",
            _CATALOGUE,
            "(yaml.YAMLError, ValueError, RecursionError)",
            "(yaml.YAMLError, RecursionError)",
        ),
        Mutant(
            "a_line_has_several_lines",
            _CATALOGUE,
            'super().__init__(" ".join(": ".join(path).split()))',
            'super().__init__(": ".join(path))',
        ),
        Mutant(
            "the_rung_of_the_preset_counts_first",
            "providers/presets.py",
            'return spec.continuation or (preset.continuation if preset else "turn")',
            'return preset.continuation if preset else spec.continuation or "turn"',
        ),
        Mutant(
            "a_plugin's_preset_is_not_in_the_table",
            "providers/presets.py",
            "    _presets[preset.name] = preset\n",
            "    _presets.setdefault(preset.name, preset)\n",
        ),
        Mutant(
            "an_unknown_quirk_is_ignored",
            "providers/registry.py",
            "    if dialect and unknown:",
            "    if False and dialect:",
        ),
        Mutant(
            "what_is_missing_comes_before_what_is_misspelt",
            _SPEC,
            'if _WORDS.get(each["type"]) == _UNKNOWN_KEY), errors[0])',
            "if not each), errors[0])",
        ),
        Mutant(
            "a_refused_value_is_shown",
            _SPEC,
            "allow_inf_nan=False, hide_input_in_errors=True",
            "allow_inf_nan=False",
        ),
        Mutant(
            "a_number_in_quotes_is_a_number",
            _SPEC,
            'extra="forbid", strict=True,',
            'extra="forbid",',
        ),
        Mutant(
            "an_address_may_hold_a_password",
            _SPEC,
            'if "@" in parts.netloc:',
            "if False:",
        ),
    ],
)
