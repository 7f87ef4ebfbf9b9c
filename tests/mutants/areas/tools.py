"""Tools: what fits their parameters, which tools there are, and how one call is executed."""

from tests.mutants.mutant import Area, Mutant

DEFINITION = ("tests/unit/worker/tools/test_definition.py",)
ARGUMENTS = ("tests/unit/worker/tools/test_arguments.py",)
REGISTRY = ("tests/unit/worker/tools/test_registry.py",)

AREA = Area(
    "tools",
    (*DEFINITION, *ARGUMENTS, *REGISTRY),
    [
        Mutant(
            "a_text_is_a_number",
            "worker/tools/arguments.py",
            "json.dumps(value), strict=True)",
            "json.dumps(value))",
            ARGUMENTS,
        ),
        Mutant(
            "invented_arguments_are_dropped",
            "worker/tools/arguments.py",
            'extra="forbid"',
            'extra="ignore"',
            ARGUMENTS,
        ),
        Mutant(
            "members_of_unions_are_named",
            "worker/tools/arguments.py",
            "            value = value[key]\n            yield key\n",
            "            value = value[key]\n            yield key\n        else:\n"
            "            yield key\n",
            ARGUMENTS,
        ),
        Mutant(
            "a_bug_of_a_validator_escapes",
            "worker/tools/arguments.py",
            "        except Exception as error:\n            # A validator",
            "        except MemoryError as error:\n            # A validator",
            ARGUMENTS,
        ),
        Mutant(
            "all_mistakes_are_named",
            "worker/tools/arguments.py",
            "*lines[:_MAX_MISTAKES]",
            "*lines",
            ARGUMENTS,
        ),
        Mutant(
            "the_context_is_a_parameter",
            "worker/tools/arguments.py",
            "for each in parameters if each.name != self.context_name]\n        )",
            "for each in parameters]\n        )",
            DEFINITION,
        ),
        Mutant(
            "a_name_may_end_with_a_line",
            "worker/tools/definition.py",
            "if not NAME.fullmatch(name)",
            "if not re.match(f'{NAME.pattern}$', name)",
            DEFINITION,
        ),
        Mutant(
            "an_async_function_decides_about_approval",
            "worker/tools/definition.py",
            "return callable(approve) and not inspect.iscoroutinefunction(approve)",
            "return callable(approve)",
            DEFINITION,
        ),
        Mutant(
            "two_tools_share_a_name",
            "worker/tools/registry.py",
            "is not tool:",
            "is None:",
            REGISTRY,
        ),
        Mutant(
            "a_module_without_tools_is_no_mistake",
            "worker/tools/registry.py",
            "if not tools:",
            "if False:",
            REGISTRY,
        ),
    ],
)
