"""The laws of a sampler: the convergence it declares, and the manners of a pure function."""

from __future__ import annotations

from diffkit.testing.lawbook import sampler_accuracy as accuracy
from diffkit.testing.lawbook import sampler_manners as manners
from diffkit.testing.lawbook.base import book_of

__all__ = ["LAWS"]

LAWS = book_of(
    "sampler",
    manners.input_untouched,
    manners.global_random_state,
    manners.same_seed_same_bits,
    manners.deterministic_means_seedless,
    manners.batch_invariance,
    manners.reentrant,
    manners.thread_safe,
    manners.honest_nfe,
    manners.shapes_and_dtypes,
    manners.transition_is_the_step,
    accuracy.order,
    accuracy.weak_order,
    accuracy.moments_from_the_start,
    accuracy.point_mass,
    accuracy.there_and_back,
    accuracy.tolerance,
    accuracy.samples_the_law,
)
