"""Peak memory of an evaluation, which must not grow with the number of images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHILD = """
import resource, sys
from pathlib import Path

import attrs, torch
torch.set_num_threads(1)
from diffkit import measuring, registry
from diffkit.evaluation import Evaluation, named
from diffkit.interfaces.dataset import Dataset, DataSpec, Examples
from diffkit.interfaces.features import FeatureExtractor, Features
from diffkit.testing.exact import GaussianProblem

COUNT, CACHE = int(sys.argv[1]), Path(sys.argv[2])


@attrs.frozen(kw_only=True)
class Speckle(Dataset):
    def spec(self):
        return DataSpec(shape=(3, 32, 32), classes=10, levels=256)

    def load(self, split):
        return EXAMPLES


class Projected(FeatureExtractor):
    identity = "projected"
    weights = torch.randn(3072, 64, generator=torch.Generator().manual_seed(0)) / 3072**0.5

    def features(self, x):
        return x.flatten(1) @ self.weights

    def logits(self, x):
        return self.features(x)[:, :10]


@attrs.frozen(kw_only=True)
class View(Features):
    def prepare(self, dataset, cache):
        return Projected()


generator = torch.Generator().manual_seed(0)
raw = torch.randint(0, 256, (10_000, 3, 32, 32), generator=generator, dtype=torch.uint8)
EXAMPLES = Examples(raw=raw, label=torch.arange(10_000) % 10)
names = ("fid", "kid", "precision-recall", "inception-score", "fid-infinity", "class-accuracy")
dataset = Speckle()
evaluation = Evaluation(
    dataset=dataset,
    metrics=named([registry.create("metric", name) for name in names]),
    features=View(),
    count=COUNT,
    seed=0,
    cache=CACHE,
)


def samples():
    for first in range(0, COUNT, 64):
        index = torch.arange(first, min(first + 64, COUNT))
        x = torch.randn(len(index), 3, 32, 32, generator=generator)
        yield from measuring.sample_batches(dataset, x, label=index % 10, first=first)


sde = registry.create("sde", "vp")
model = GaussianProblem(mean=torch.zeros(2), covariance=torch.eye(2)).model(sde)
figures = evaluation.run(model, samples())
assert {figure.count for figure in figures.values()} == {COUNT}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(count: int, cache: Path) -> float:
    """MiB, of a process that evaluates so many images of 12 KiB each."""
    command = [sys.executable, "-c", CHILD, str(count), str(cache)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) / 1024


@pytest.mark.prove
def test_ten_thousand_images_take_no_more_memory_than_a_thousand(tmp_path: Path) -> None:
    """Images alone would be 105 MiB more; features, up to their stated cap, are 5."""
    few, many = (peak(count, tmp_path / str(count)) for count in (1000, 10_000))
    print(f"peak: {few:.0f} MiB for 1,000 images, {many:.0f} MiB for 10,000")
    assert many - few < 60
