"""The public compliance suite of Open Responses, run against a whole Tokenwire (`llm-comply`)."""

from collections.abc import Iterator
from importlib.resources import files

import pytest
from llm_comply import runner
from llm_comply.config import ComplianceConfig
from llm_comply.schema import SpecLoader
from llm_comply.tests import get_tests

from tests.e2e.stack import Stack, running_stack

pytestmark = pytest.mark.filterwarnings(
    "ignore:jsonschema.RefResolver"
)  # the suite's own way to read its schemas
SPECIFICATION = str(files("llm_comply") / "specs" / "openresponses.json")
NOT_HERE = {
    "image-input": "only text is taken",
    "compact-response": "there is no /v1/responses/compact",
    "compact-missing-model": "there is no /v1/responses/compact",
    "reasoning-summary": "thoughts are not summarised",
    "error-handling": "it leaves the model out, which means the default one here",
}
"""Cases that docs/openai.md lists as unsupported."""
_MODELS = "default: demo\nmodels: {demo: {provider: demo, options: {tokens_per_second: 0}}}\n"
CASES = {case.id: case for case in get_tests("open-responses") if case.id not in NOT_HERE}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("stack")
    (folder / "models.yml").write_text(_MODELS)
    with running_stack(folder, MODELS_FILE=str(folder / "models.yml")) as running:
        yield running


@pytest.mark.parametrize("name", CASES)
def test_a_response_follows_the_specification(stack: Stack, name: str) -> None:
    """Every key, every event, in order."""
    config = ComplianceConfig(base_url=f"{stack.url}/v1", api_key="none", model="demo", timeout=60)
    result = runner.TestRunner(config, [CASES[name]], SpecLoader(SPECIFICATION)).run_one(
        CASES[name]
    )
    assert result.errors == []
