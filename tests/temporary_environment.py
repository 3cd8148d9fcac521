"""A virtual environment that sees this one's packages, torch among them, and has others of its own."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import attrs

__all__ = ["Environment"]


@attrs.frozen
class Environment:
    """Packages are built as wheels and installed into it, without a network."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Environment:
        """A new one."""
        made = cls(folder)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        query = "import sysconfig; print(sysconfig.get_path('purelib'))"
        ours = sysconfig.get_path("purelib")
        # Through `addsitedir` and not as a plain line, so that editable installs in it are seen too.
        (Path(made.python("-c", query).stdout.strip()) / "outer.pth").write_text(
            f"import site; site.addsitedir({ours!r})\n"
        )
        return made

    @property
    def interpreter(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    def install(self, *packages: Path) -> list[Path]:
        """Builds wheels of source folders and installs them; returns the wheels."""
        wheels = self.folder / "wheels"
        before = set(wheels.glob("*.whl"))
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
        build = [*pip, "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
        subprocess.run([*build, "--wheel-dir", str(wheels), *map(str, packages)], check=True)
        built = sorted(set(wheels.glob("*.whl")) - before)
        there = [*pip, "--python", str(self.interpreter), "install"]
        subprocess.run([*there, "--quiet", "--no-index", "--no-deps", *map(str, built)], check=True)
        return built

    def python(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs the interpreter there."""
        return subprocess.run(
            [self.interpreter, *arguments],
            capture_output=True,
            text=True,
            cwd=cwd,
            check=False,
            timeout=600,
        )

    def diffkit(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Runs a command of diffkit there."""
        return self.python("-m", "diffkit", *arguments, cwd=cwd)
