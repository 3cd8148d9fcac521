"""What docs/energy.md tells a reader to type does what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pages import DOCS, Reader, blocks


def test_the_page_from_the_top(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    reader.furnish()
    reader.type("diffkit run examples/configs/ebm-points.yaml")  # whose film the page draws
    reader.follow(blocks(DOCS / "energy.md"))
    moved, still = (reader.names[name].x for name in ("moved", "still"))
    assert float((moved > 0.05).float().mean()) == pytest.approx(0.329, abs=0.04)
    assert float((still > 0.05).float().mean()) == pytest.approx(0.49, abs=0.05)
    assert torch.unique(still.round(decimals=3)).numel() == 2
    assert (tmp_path / "landscape.png").stat().st_size > 1000
    assert list((tmp_path / "film").glob("*.png"))
