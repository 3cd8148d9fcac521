"""Distributions made on the spot: metadata and modules in a folder that is put on `sys.path`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from diffkit.registry import Registry


class Site:
    """A folder like site-packages."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def install(
        self,
        name: str,
        groups: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str] | None = None,
        version: str = "1.0",
    ) -> None:
        """A distribution: its entry points by group, and the source of its modules."""
        info = self.path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        sections = (
            f"[{group}]\n" + "".join(f"{entry} = {value}\n" for entry, value in entries.items())
            for group, entries in groups.items()
        )
        (info / "entry_points.txt").write_text("\n".join(sections))
        for module, source in (modules or {}).items():
            (self.path / f"{module}.py").write_text(source)

    def registry(self) -> Registry:
        """Everything installed here and in the environment, this folder first."""
        return Registry.scan([str(self.path), *sys.path])


@pytest.fixture(scope="session", autouse=True)
def _no_user_policy() -> Iterator[None]:
    """Whoever runs the tests may deny plugins; the tests are not to know."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DIFFKIT_CONFIG", os.devnull)
        yield


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty site, its modules importable during the test and forgotten after it."""
    place = Site(tmp_path / "site")
    monkeypatch.syspath_prepend(str(place.path))
    yield place
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(place.path)):
            del sys.modules[name]
