"""A small run of the driver: `make chaos` is the large one."""

import argparse
import sys
from pathlib import Path

import pytest

from tests.chaos.__main__ import arguments, run


def _options(line: str) -> argparse.Namespace:
    return arguments().parse_args(line.split())


@pytest.mark.timeout(240)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_few_faults_of_every_process(tmp_path: Path) -> None:
    """Workers, broadcasters and web die under a dozen streams: nothing lost, nothing repeated, one
    end each. Some call tools, and no tool runs without a permission.
    """
    line = (
        "--kills 6 --seed 8 --database sqlite --streams 6 --readers 2 --workers 3 "
        "--minutes-at-most 0.5 --rate 40 --spacing 1.5"
    )
    report = await run(
        _options(
            f"{line} --only kill-worker,kill-broadcaster,kill-web,pause-worker,term-worker,"
            f"cut-readers"
        ),
        tmp_path,
    )
    assert report.good, "\n".join(report.lines())
    assert any(stream.calls for stream in report.streams)
