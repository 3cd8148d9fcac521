"""Features of the Inception network that published FIDs rest on, through torch-fidelity.

Images are put on 256 levels, grey ones repeated in three channels, and resized by torch-fidelity as
TensorFlow 1 did: bilinear, to 299 x 299, without antialiasing. (clean-fid resizes otherwise: bicubic and
antialiased, so its figures differ.)
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, final
from unittest.mock import patch

import attrs
import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diffkit.component import Requirement, parameter
from diffkit.device import best_device
from diffkit.errors import DataError, InputError
from diffkit.interfaces.dataset import Dataset
from diffkit.interfaces.features import FeatureExtractor, Features
from diffkit.selection import Selection

__all__ = ["Inception"]

_ROWS = 32
_LAYERS = ["2048", "logits_unbiased"]
_MODULE = "torch_fidelity.feature_extractor_inceptionv3"
_REMEDY = (
    "Download {url} on a machine with a network, copy it here, and name it:"
    " `features: {{name: inception, weights: PATH}}` (a .pth as downloaded, or a .safetensors)"
)


@final
@attrs.frozen(kw_only=True)
class Inception(Features):
    """The 2048 pooled features and the 1008 class scores (without bias) of the FID Inception network.

    The weights are those that torch-fidelity publishes, converted from TensorFlow's of 2015. They are
    downloaded once, or read from a file; nothing but tensors is taken from either, and what is kept under the
    cache is a safetensors file. The identity is their checksum.

    Raises:
        InputError: torch-fidelity is not installed, or the weights are not to be had, or do not fit.
        DataError: examples that are no images.
    """

    source: ClassVar[str] = (
        "Heusel et al. 2017, arXiv 1706.08500; torch-fidelity, FeatureExtractorInceptionV3"
    )

    weights: Path | None = parameter(
        "a file with the weights, .pth or .safetensors; null = torch-fidelity's, by download", None
    )

    @property
    def requires(self) -> tuple[Requirement, ...]:
        reason = "the features 'inception' look at images, and these examples are none"
        return (Requirement("dataset.images", reason, "choose other features, such as 'pixels'"),)

    @property
    def provides(self) -> frozenset[str]:
        return frozenset({"features.logits"})

    def refusals(self, selection: Selection) -> tuple[tuple[str, str], ...]:
        found = []
        if importlib.util.find_spec("torch_fidelity") is None:
            reason = "the features 'inception' come from torch-fidelity, which is not installed"
            remedy = "install it (`pip install 'diffkit[inception]'`), or use the features 'classifier'"
            found.append((reason, remedy))
        if self.weights is not None and not self.weights.expanduser().is_file():
            reason = f"there are no weights for the features 'inception' at {self.weights}"
            found.append((reason, "name the file that holds them, or leave `weights` out to download them"))
        return tuple(found)

    def prepare(self, dataset: Dataset, cache: Path) -> FeatureExtractor:
        if not dataset.spec().image:
            raise DataError(
                f"the features 'inception' were asked for examples of shape {dataset.spec().shape}",
                "grey or RGB images",
                "Choose other features, such as 'pixels'",
            )
        tensors = self._tensors(cache)
        network = _Library().network(tensors).to(best_device())
        return _Extractor(module=network, dataset=dataset, checksum=_checksum(tensors))

    def _tensors(self, cache: Path) -> dict[str, Tensor]:
        """The weights by name; those of a .pth are converted once, and kept."""
        library = _Library()
        given = None if self.weights is None else self.weights.expanduser()
        if given is not None and given.suffix == ".safetensors":
            return _read(given)
        address = library.url if given is None else given.absolute().as_uri()
        identity = address if given is None else hashlib.sha256(given.read_bytes()).hexdigest()
        folder = cache / f"features-inception-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "weights.safetensors"
        with FileLock(folder / ".lock"):
            if kept.is_file():
                try:
                    return _read(kept)
                except InputError as problem:
                    logging.getLogger("diffkit").warning("%s They are converted again.", problem.got)
            tensors = _fetched(address, folder, checked=given is None)
            save_file(tensors, folder / "unfinished")
            (folder / "unfinished").replace(kept)
        return tensors


class _Library:
    """What is used of torch-fidelity, imported when it is needed."""

    def __init__(self) -> None:
        try:
            self.module: Any = importlib.import_module(_MODULE)
        except ImportError as error:
            raise InputError(
                f"the features 'inception' come from torch-fidelity, which cannot be imported ({error})",
                "torch-fidelity beside diffkit",
                "Install it (`pip install 'diffkit[inception]'`), or use the features 'classifier'",
            ) from error

    @property
    def url(self) -> str:
        return str(self.module.URL_INCEPTION_V3)

    def network(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """Its network with these weights, in evaluation mode."""
        # Its constructor would download and unpickle weights; it is given these instead.
        with patch.object(self.module, "load_state_dict_from_url", lambda *_, **__: dict(tensors)):
            try:
                network: nn.Module = self.module.FeatureExtractorInceptionV3("diffkit", list(_LAYERS))
            except RuntimeError as error:
                raise InputError(
                    f"the weights do not fit the Inception network: {str(error)[:200]}",
                    "the weights that torch-fidelity publishes, or others of the same shapes",
                    _REMEDY.format(url=self.url),
                ) from error
        return network.eval().requires_grad_(False)


@attrs.frozen(kw_only=True, eq=False)
class _Extractor(FeatureExtractor):
    module: nn.Module
    dataset: Dataset
    checksum: str

    @property
    def identity(self) -> str:
        return f"inception-tf1-bilinear:{self.checksum[:12]}"

    def features(self, x: Tensor) -> Tensor:
        return self.features_and_logits(x)[0]

    def logits(self, x: Tensor) -> Tensor:
        return self.features_and_logits(x)[1]

    @torch.no_grad()
    def features_and_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        device = next(self.module.parameters()).device
        parts = [self.module(self.bytes(rows).to(device)) for rows in torch.split(x, _ROWS)]
        features, logits = (torch.cat(each).to(x.device) for each in zip(*parts, strict=True))
        return features, logits

    def bytes(self, x: Tensor) -> Tensor:
        """What the network is shown: (B, 3, H, W) uint8."""
        picture = (255.0 * self.dataset.picture(x)).round().to(torch.uint8)
        return picture.expand(-1, 3, -1, -1)


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()


def _fetched(address: str, folder: Path, *, checked: bool) -> dict[str, Tensor]:
    """The tensors of a .pth, fetched into `folder` and removed from it again."""
    try:
        found = torch.hub.load_state_dict_from_url(
            address,
            model_dir=str(folder),
            map_location="cpu",
            file_name=None if checked else "given.pth",
            check_hash=checked,
            weights_only=True,
            progress=False,
        )
        return {name: tensor.contiguous() for name, tensor in found.items()}
    except Exception as error:  # the network, the disk, and any damage to the file speak in many tongues
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"the weights of the features 'inception' cannot be had from {address}: {first}",
            "the weights that torch-fidelity publishes",
            _REMEDY.format(url=_Library().url) + ", or use the features 'classifier'",
        ) from error
    finally:
        for file in folder.glob("*.pth"):
            file.unlink()


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"the weights in {file} cannot be read: {error}",
            "a safetensors file",
            "Name another file, or leave `weights` out to download them",
        ) from error
