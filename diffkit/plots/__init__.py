"""Pictures of samples, processes and figures of merit, each a matplotlib `Figure` of its own.

Nothing here touches pyplot or any other global state, so the functions serve scripts, threads and
notebooks alike (a figure that ends a cell shows itself). Arrays may be numpy's or torch's, on any
device. `docs/pictures.md` shows every one of them with its code.
"""

from __future__ import annotations

from diffkit.plots.embedding import embedding
from diffkit.plots.landscape import densities
from diffkit.plots.langevin import double_well
from diffkit.plots.likelihood import terms
from diffkit.plots.pictures import before_after, class_rows, film_strip, rows, sheet
from diffkit.plots.plane import clouds, scatter, score_field
from diffkit.plots.processes import marginals_1d, marginals_2d, schedules
from diffkit.plots.signals import lines
from diffkit.plots.style import save
from diffkit.plots.training import energies, loss_curve, losses, predicted_noise, tracked

__all__ = [
    "before_after",
    "class_rows",
    "clouds",
    "densities",
    "double_well",
    "embedding",
    "energies",
    "film_strip",
    "lines",
    "loss_curve",
    "losses",
    "marginals_1d",
    "marginals_2d",
    "predicted_noise",
    "rows",
    "save",
    "scatter",
    "schedules",
    "score_field",
    "sheet",
    "terms",
    "tracked",
]
