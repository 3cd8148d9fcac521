"""Pictures of samples, processes and figures of merit, each a matplotlib `Figure` of its own.

Nothing here touches pyplot or any other global state, so the functions serve scripts, threads and
notebooks alike (a figure that ends a cell shows itself). Arrays may be numpy's or torch's, on any
device. `docs/pictures.md` shows every one of them with its code.
"""

from __future__ import annotations

from diffkit.plots.pictures import before_after, film_strip, sheet
from diffkit.plots.plane import scatter
from diffkit.plots.processes import schedules, terms
from diffkit.plots.signals import lines
from diffkit.plots.style import save
from diffkit.plots.training import loss_curve, tracked

__all__ = [
    "before_after",
    "film_strip",
    "lines",
    "loss_curve",
    "save",
    "scatter",
    "schedules",
    "sheet",
    "terms",
    "tracked",
]
