"""No test is skipped in CI without anybody's noticing: there a server or a tool that is missing is a failure.

A skip stands only where the code says so beside the test: by a `skipif` mark (another system), or by `may_skip`, which gives the reason.
"""

import os
from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """See pytest."""
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
