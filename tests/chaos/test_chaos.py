"""A small run of the driver: `make chaos` is the large one."""

import argparse
import sys
from pathlib import Path

import pytest

from tests.chaos.__main__ import arguments, run


def _options(line: str) -> argparse.Namespace:
    return arguments().parse_args(line.split())


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_few_faults_of_every_process(tmp_path: Path) -> None:
    """Workers, broadcasters and web die under a dozen streams: nothing lost, nothing repeated, one
    end each. Some call tools, and no tool runs without a permission.
    """
    line = (
        "--kills 6 --seed 8 --database sqlite --streams 4 --readers 2 --workers 2 "
        "--minutes-at-most 0.5 --rate 60 --spacing 1"
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


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_kills_at_each_point_of_a_call(tmp_path: Path) -> None:
    """Workers die between the approval, the tool and the next request to the model. No call is
    executed twice, each decision applies once, and what people write meanwhile is not lost.
    """
    line = (
        "--rounds --kills 8 --seed 3 --database sqlite --streams 6 --readers 2 --workers 3 "
        "--minutes-at-most 1 --spacing 2"
    )
    report = await run(_options(line), tmp_path)
    assert report.good, "\n".join(report.lines())
    assert {kind.partition("-")[0] for _, kind in report.faults} == {"kill"}
    assert any(stream.remark for stream in report.streams)
