"""Wrong metrics."""

from __future__ import annotations

from mutation import Mutant

FID, KID, SCORE = "metrics.fid FID", "metrics.kid KID", "metrics.inception_score InceptionScore"
PAIRS, NEAREST, ELBO = (
    "metrics.precision_recall PrecisionRecall",
    "metrics.nearest_training NearestTraining",
    "metrics.elbo ELBO",
)
BEST, COUNT = "best-at-the-reference", "count-is-of-the-samples"
MOMENTS = ("metrics._moments", "metrics._dealt")

METRICS = (
    Mutant(
        FID, "return max(0.0, float(", "return float('inf') + max(0.0, float(", "measurement", {}, MOMENTS
    ),
    Mutant(
        FID,
        "m2=self.m2 + other.m2 + weight",
        "m2=self.m2 + other.m2 + 0.0 * weight",
        "cut-into-batches",
        {},
        MOMENTS,
    ),
    Mutant(FID, "other.count / count),", "0.5),", "cut-into-batches", {}, MOMENTS),
    Mutant(
        FID,
        "        weight = self.count * other.count / count\n",
        "        weight = self.count * self.count / count\n",
        "merging",
        {},
        MOMENTS,
    ),
    Mutant(KID, "state.both(2,", "state.both(1,", "refuses-one-example"),
    Mutant(KID, "same - 2.0 * self.xy", "same * float('inf') - 2.0 * self.xy", "measurement"),
    Mutant(FID, "self.reference.mean,", "0.9 * self.reference.mean,", "packing", {}, ("metrics._dealt",)),
    Mutant(
        SCORE,
        "group_of(batch.index.to(p.device), self.splits)",
        "group_of(torch.arange(len(p)) + batch.index.min(), self.splits)",
        "order-of-batches",
    ),
    Mutant(
        SCORE,
        "negentropy=_sum(a.negentropy, b.negentropy)",
        "negentropy=_sum(b.negentropy, None)",
        "cut-into-batches",
    ),
    Mutant(SCORE, "    return a + b", "    return a.add_(b)", "states-are-values"),
    Mutant(
        SCORE, "torch.isfinite(probability).all() and torch.isfinite(negentropy).all()", "True", "refuses-nan"
    ),
    Mutant(FID, 'distances_to(reference, "FID")', 'distances_to(groups[0], "FID")', BEST),
    Mutant(FID, "value = distance(whole)", "value = distance(reference)", BEST),
    Mutant(KID, "return float(same - 2.0 * self.xy", "return -float(same - 2.0 * self.xy", BEST),
    Mutant(PAIRS, "return True", "return False", BEST),
    Mutant(
        PAIRS,
        "_share(samples, reference, self",
        "_share(samples, samples, self",
        BEST,
        {"figure": "precision"},
    ),
    Mutant(NEAREST, "value, error = _mean(samples)", "value, error = _mean(held_out)", BEST),
    Mutant(FID, "count=whole.count", "count=reference.count", COUNT),
    Mutant(FID, "count=whole.count", "count=whole.count + reference.count", COUNT),
    Mutant(SCORE, "count=int(count.sum())", "count=self.splits", COUNT),
    Mutant(NEAREST, "count=state.samples.seen", "count=count", COUNT),
    Mutant(ELBO, "count=len(decoder)", "count=len(decoder) * steps", COUNT),
)
