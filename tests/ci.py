"""In CI, a missing server or tool is a failure, so that no test is skipped unnoticed.

A skip stands only where the test's own code allows it: by a `skipif` mark (another system), or by
`may_skip` with a reason.
"""

import os
from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """pytest's hook: turn a skip in CI into a failure."""
    report = yield
    expected = (
        hasattr(report, "wasxfail")
        or any(item.iter_markers("skipif"))
        or any(item.iter_markers("may_skip"))
    )
    if os.environ.get("CI") and report.skipped and not expected:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {_reason(report.longrepr)}"
    return report


def _reason(told: Any) -> str:
    return told[2] if isinstance(told, tuple) else str(told)
