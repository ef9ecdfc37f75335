"""The benchmark of blocks, on pictures so small that only its form counts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmarks.blocks import main


@pytest.mark.slow
def test_it_prints_a_row_for_each_way(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).resolve().parents[2])  # it starts itself as a module
    main(["--sizes", "96", "--tile", "48", "--device", "cpu"])
    out = capsys.readouterr().out
    apart = dict(re.findall(r"apart at 96 px in blocks of 48, torch\.(\w+): (\S+) of their norm", out))
    assert float(apart["float64"]) < 1e-10
    assert float(apart["float32"]) < 1e-2  # 1e-3 where a rounding moves a maximum
    rows = re.findall(
        r"^\| 96 \| (whole|blocks of 48) \| (\d+\.\d+) \| (\d+\.\d+) \|$", out, flags=re.MULTILINE
    )
    assert [how for how, _, _ in rows] == ["whole", "blocks of 48"]
    assert all(0 < float(gigabytes) < 8 for _, _, gigabytes in rows)
