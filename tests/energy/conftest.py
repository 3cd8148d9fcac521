"""Nothing here without the distribution that it is about."""

from __future__ import annotations

import pytest

pytest.importorskip("diffkit_energy", reason="diffkit-energy is not installed")
