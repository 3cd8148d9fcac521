"""torch-fidelity's figures on the same features, and its Inception network behind `inception`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import attrs
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from diffkit import Experiment
from diffkit.batch import Batch
from diffkit.errors import InputError
from diffkit.interfaces.metric import Measurement, Metric, MetricContext
from diffkit.noise import Noise
from diffkit.testing import laws
from diffkit_standard.datasets.digits import Digits
from diffkit_standard.features.inception import Inception
from diffkit_standard.metrics.fid import FID
from diffkit_standard.metrics.inception_score import InceptionScore
from diffkit_standard.metrics.kid import KID
from diffkit_standard.metrics.precision_recall import PrecisionRecall

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torch_fidelity", reason="torch-fidelity, the peer, is not installed")
    from torch_fidelity import feature_extractor_inceptionv3 as library
    from torch_fidelity import metric_fid, metric_isc, metric_kid, metric_prc

pytestmark = [pytest.mark.peer, pytest.mark.filterwarnings("ignore:::torch_fidelity")]

NOISE = Noise(seed=0, index=torch.arange(0))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def measured(metric: Metric, samples: Tensor, reference: Tensor) -> Measurement:
    state = metric.start(MetricContext())
    for source, x in (("samples", samples), ("reference", reference)):
        batch = Batch(x=x, index=torch.arange(len(x)), features=x, logits=x, source="samples")
        state = metric.update(state, attrs.evolve(batch, source=source), NOISE)
    return metric.finish(state)


@pytest.mark.parametrize("count,size", [(400, 24), (40, 64)])
def test_fid(count: int, size: int) -> None:
    x = normal(count, size, seed=1) @ normal(size, size, seed=2) / size**0.5 + 0.2
    y = normal(500, size, seed=3) @ normal(size, size, seed=4) / size**0.5
    statistics = [metric_fid.fid_features_to_statistics(each) for each in (x, y)]
    theirs = metric_fid.fid_statistics_to_metric(*statistics, False)[metric_fid.KEY_METRIC_FID]
    assert measured(FID(), x, y).value == pytest.approx(theirs, rel=1e-6)


def test_kid() -> None:
    x, y = normal(80, 16, seed=1) + 0.3, normal(80, 16, seed=2)
    theirs = metric_kid.kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=80, verbose=False)
    assert measured(KID(), x, y).value == pytest.approx(theirs[metric_kid.KEY_METRIC_KID_MEAN], rel=1e-6)


def test_precision_and_recall() -> None:
    x, y = normal(150, 6, seed=1) + 0.4, normal(200, 6, seed=2)
    theirs = metric_prc.prc_features_to_metric(x, y, prc_neighborhood=3, save_cpu_ram=False, verbose=False)
    ours = measured(PrecisionRecall(), x, y)
    for name in ("precision", "recall"):
        assert 0.1 < theirs[name] < 0.99
        assert ours.details[name]["value"] == pytest.approx(theirs[name], abs=1e-6)
    assert ours.value == pytest.approx(theirs["f_score"], abs=1e-6)


def test_inception_score() -> None:
    logits = 2.0 * normal(300, 10, seed=1)
    theirs = metric_isc.isc_features_to_metric(logits, splits=1)[metric_isc.KEY_METRIC_ISC_MEAN]
    assert measured(InceptionScore(splits=1), logits, logits).value == pytest.approx(theirs, rel=1e-6)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random weights of the network's shapes, as both kinds of file."""
    generator = torch.Generator().manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda *_, **__: None)
        state = library.FeatureExtractorInceptionV3("shapes", ["2048"]).state_dict()
    for tensor in state.values():
        if tensor.ndim > 1:  # each layer keeps the variance of its input, so that images stay apart
            spread = (2.0 / tensor[0].numel()) ** 0.5
            tensor.copy_(spread * torch.randn(tensor.shape, generator=generator))
    folder = tmp_path_factory.mktemp("weights")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "w.safetensors")
    torch.save(state, folder / "w.pth")
    return {"safetensors": folder / "w.safetensors", "pth": folder / "w.pth"}


class TestInception:
    def test_it_sees_what_the_library_sees(self, weights: dict[str, Path], tmp_path: Path) -> None:
        """The library's own path from bytes to features, by weights that it unpickles itself."""
        digits = Digits()
        x = digits.encode(digits.load("test").raw[:6])
        theirs = library.FeatureExtractorInceptionV3(
            "theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(weights["pth"])
        )
        shown = (digits.load("test").raw[:6].float() / 16 * 255).round().to(torch.uint8).repeat(1, 3, 1, 1)
        expected = theirs(shown)
        extractor = Inception(weights=weights["safetensors"]).prepare(digits, tmp_path)
        for ours, other in zip(extractor.features_and_logits(x), expected, strict=True):
            torch.testing.assert_close(ours, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))
        assert float(extractor.features(x).std(0).mean()) > 1e-3
        assert extractor.features(x).shape == (6, 2048)
        assert extractor.logits(x).shape == (6, 1008)

    def test_both_kinds_of_file_are_one_identity_and_the_cache_is_no_pickle(
        self, weights: dict[str, Path], tmp_path: Path
    ) -> None:
        found = {
            kind: Inception(weights=path).prepare(Digits(), tmp_path).identity
            for kind, path in weights.items()
        }
        again = Inception(weights=weights["pth"]).prepare(Digits(), tmp_path).identity
        assert len({*found.values(), again}) == 1
        kept = [path.name for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]
        assert kept == ["weights.safetensors"]

    def test_a_damaged_cache_is_made_again(
        self, weights: dict[str, Path], tmp_path: Path, caplog: Any
    ) -> None:
        first = Inception(weights=weights["pth"]).prepare(Digits(), tmp_path).identity
        (kept,) = tmp_path.rglob("weights.safetensors")
        kept.write_bytes(kept.read_bytes()[:1000])
        assert Inception(weights=weights["pth"]).prepare(Digits(), tmp_path).identity == first
        assert "converted again" in caplog.text

    def test_code_in_a_weights_file_is_not_run(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> Any:
                return (Path.touch, (tmp_path / "sprung",))

        torch.save({"fc.weight": Trap()}, tmp_path / "trap.pth")
        with pytest.raises(InputError, match="cannot be had from"):
            Inception(weights=tmp_path / "trap.pth").prepare(Digits(), tmp_path / "cache")
        assert not (tmp_path / "sprung").exists()

    def test_foreign_weights_are_refused(self, tmp_path: Path) -> None:
        save_file({"other": torch.zeros(2)}, tmp_path / "other.safetensors")
        with pytest.raises(InputError, match="do not fit the Inception network"):
            Inception(weights=tmp_path / "other.safetensors").prepare(Digits(), tmp_path)
        (tmp_path / "none.safetensors").write_bytes(b"nothing")
        with pytest.raises(InputError, match="cannot be read"):
            Inception(weights=tmp_path / "none.safetensors").prepare(Digits(), tmp_path)

    def test_without_a_network_one_paragraph_tells_how_to_get_the_weights(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(library, "URL_INCEPTION_V3", "http://127.0.0.1:9/weights-inception-6726825d.pth")
        with pytest.raises(InputError) as caught:
            Inception().prepare(Digits(), tmp_path)
        said = str(caught.value)
        assert "\n" not in said
        assert "Download http://127.0.0.1:9/weights-inception-6726825d.pth" in said
        assert "features: {name: inception, weights: PATH}" in said
        assert caught.value.exit_status == 2

    @pytest.mark.prove
    @pytest.mark.parametrize("law", laws("features"), ids=lambda law: law.name)
    def test_laws(self, law: Any, weights: dict[str, Path]) -> None:
        law(Inception(weights=weights["safetensors"]))

    def test_a_run_goes_through_it(self, weights: dict[str, Path], tmp_path: Path) -> None:
        experiment = Experiment.from_dict(
            {
                "name": "seen",
                "dataset": "digits",
                "network": {"name": "unet", "channels": 8, "groups": 4},
                "training": {"steps": 1, "batch_size": 8, "precision": "fp32"},
                "sampling": {"steps": 2, "count": 4},
                "evaluation": {
                    "metrics": [{"name": "inception-score", "splits": 2}],
                    "count": 6,
                    "features": {"name": "inception", "weights": str(weights["safetensors"])},
                },
            },
            runs=tmp_path,
            quiet=True,
        )
        (figure,) = experiment.run().metrics.values()
        assert figure.details["features"].startswith("inception-tf1-bilinear:")
        assert figure.details["classes"] == 1008
