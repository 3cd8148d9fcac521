"""The documentation as its readers meet it: every block is written, typed or executed, in the page's order.

- yaml, toml and python that begin with `# name.ext` are files (`# name.ext, added at the end`: part of one);
- other python is executed, the blocks of a page in one session;
- other yaml is a part of a configuration, which must be valid;
- console holds commands, `# refused` after one meaning exit status 2;
- text is only read.

What would take long is made small: networks, trainings and sample counts, in the configurations that a page
writes or finds. A run's folder, which pages call `runs/name-1a2b3c4d5e`, is the newest of that name.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML
from temporary_environment import Environment

from diffkit.cli import main as cli
from diffkit.config import ExperimentConfig

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.\w+)(, added at the end)?")
_FEW_STEPS = "--set=evaluation.features={name: classifier, steps: 5}"
_SHORTER = {"impute": ["--steps", "2"], "sample": ["--count", "10"], "evaluate": [_FEW_STEPS]}
_LAUNCHERS = {"torchrun": "torch.distributed.run", "accelerate": "accelerate.commands.accelerate_cli"}

Block = tuple[str, str]


def blocks(page: Path, until: str = "") -> list[Block]:
    """Kind and body of each block, those before the words `until` only."""
    text = page.read_text(encoding="utf-8")
    assert until in text
    found: list[Block] = _BLOCK.findall(text.partition(until)[0] if until else text)
    return found


class Reader:
    """Somebody with a page before them.

    Args:
        place: the folder they are in.
        environment: where packages are installed and commands run; by default nowhere, and in this process.
    """

    def __init__(self, place: Path, environment: Environment | None = None) -> None:
        self.place, self.environment = place, environment
        self.names: dict[str, Any] = {"__name__": "page"}
        self.said: dict[str, str] = {}

    def furnish(self) -> None:
        """What pages take for granted: the example configurations, some pictures, a mask."""
        for example in (ROOT / "examples" / "configs").glob("*.yaml"):
            self._write(Path("examples/configs", example.name), example.read_text(encoding="utf-8"))
        for number in range(24):
            place = Path("photographs", ("cats", "dogs")[number % 2]) if number < 22 else Path("pictures")
            (self.place / place).mkdir(parents=True, exist_ok=True)
            picture = Image.fromarray(np.full((8, 8), 10 * number, dtype=np.uint8))
            picture.save(self.place / place / f"{number}.png")
        Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(self.place / "holes.png")

    def follow(self, page: Iterable[Block]) -> None:
        """Does what the page says, block by block."""
        for kind, body in page:
            file = _FILE.fullmatch(body.partition("\n")[0])
            if kind == "console":
                for line in body.splitlines():
                    self.type(line)
            elif file and kind in ("python", "toml", "yaml"):
                self._write(Path(file[1]), body, added=bool(file[2]))
            elif kind == "python":
                with contextlib.chdir(self.place):
                    exec(compile(body, "the page", "exec"), self.names)
            elif kind == "yaml":
                given = YAML(typ="safe").load(body)
                ExperimentConfig.from_mapping({"name": "part", "dataset": "digits", **given})
            else:
                assert kind == "text", kind

    def type(self, line: str) -> None:
        """A command, which has to end as the page says."""
        command, _, comment = line.removeprefix("$ ").partition("#")
        words = shlex.split(re.sub(r"runs/([\w-]+)-[0-9a-f]{10}", self._newest, command))
        if words[0] == "cd":
            self.place = self.place / words[1]
            return
        status, self.said[line] = self._run(words)
        assert status == (2 if comment.strip() == "refused" else 0), f"{line}\n{self.said[line]}"

    def _newest(self, name: re.Match[str]) -> str:
        found = max(self.place.glob(f"runs/{name[1]}-*"), key=lambda folder: folder.stat().st_mtime)
        return str(found.relative_to(self.place))

    def _write(self, name: Path, body: str, added: bool = False) -> None:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not added or path.is_file()
        if name.suffix == ".yaml":
            yaml = YAML(typ="safe")
            yaml.dump(_small(yaml.load(body)), path)
        elif added:
            rest = body.split("\n", 1)[1]
            path.write_text(f"{path.read_text()}\n{rest}")
        else:
            path.write_text(body)

    def _run(self, words: list[str]) -> tuple[int, str]:
        if words[0] == "make":
            makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
            return int(not re.search(rf"^{words[1]}:", makefile, flags=re.MULTILINE)), "no such target"
        if words == ["python", "-m", "pip", "install", "."]:
            return int(not (ROOT / "pyproject.toml").is_file()), ""
        if words[0] in _LAUNCHERS:
            return self._spoken([sys.executable, "-m", _LAUNCHERS[words[0]], *words[1:]])
        if self.environment is None:
            assert words[0] == "diffkit", words
            return self._diffkit(words[1:])
        if words[0] in ("diffkit", "pytest"):
            return self._spoken([str(self.environment.interpreter), "-m", *words])
        assert words[:2] in (["pip", "install"], ["pip", "wheel"]), words
        alone = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
        there = [] if words[1] == "wheel" else ["--python", str(self.environment.interpreter)]
        return self._spoken([sys.executable, "-m", "pip", *there, words[1], *alone, *words[2:]])

    def _spoken(self, command: list[str]) -> tuple[int, str]:
        done = subprocess.run(
            command, cwd=self.place, capture_output=True, text=True, check=False, timeout=300
        )
        return done.returncode, done.stdout + done.stderr

    def _diffkit(self, words: list[str]) -> tuple[int, str]:
        shorter = [re.sub(r"^evaluation\.count=\d+$", "evaluation.count=20", word) for word in words]
        shorter += _SHORTER.get(words[0], [])
        handler, said = signal.getsignal(signal.SIGTERM), io.StringIO()
        with (
            contextlib.chdir(self.place),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            warnings.catch_warnings(),
            pytest.raises(SystemExit) as left,
        ):
            cli.main(shorter)
        signal.signal(signal.SIGTERM, handler)
        return int(left.value.code or 0), said.getvalue()


def _small(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the same parts, made to be done in a moment."""
    network, training = config.get("network", "unet"), config.get("training", {})
    if isinstance(network, str):
        network = {"name": network}
    if network["name"] == "unet":
        network |= {"channels": 8, "multipliers": [1, 1], "heads": 2}
    training = {key: value for key, value in training.items() if key not in ("epochs", "keep")}
    training |= {"steps": 3, "batch_size": 8, "precision": "fp32", "save_every": 2}
    sampling = config.get("sampling", {}) | {"count": 10, "steps": 3}
    evaluation = config.get("evaluation", {}) | {"count": 20}
    if "features" not in evaluation:
        evaluation["features"] = {"name": "classifier", "steps": 5}
    if isinstance(evaluation.get("track"), Mapping):
        evaluation["track"] = {**evaluation["track"], "every": 2, "count": 20}
    return {
        **config,
        "network": network,
        "training": training,
        "sampling": sampling,
        "evaluation": evaluation,
    }
