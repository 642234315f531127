"""Makes the two tables of the benchmark: study.npy (100 x 2,000) and, when asked, large.npy (100 x 1,000,000)."""

import sys

import numpy as np


def table(samples, seed):
    rng = np.random.default_rng(seed)
    thresholds = np.linspace(1, 0.01, 100)
    confidence, luck = rng.beta(3, 2, samples), rng.random(samples)
    loss = (luck < 0.45 * (1 - confidence) ** 1.2).astype(float) - (luck > 0.97)
    out = np.zeros((100, samples + 1))
    out[:, 0] = thresholds
    for k in range(1, 100):
        out[k, 1:] = np.where(confidence >= thresholds[k], loss, 0)
    return out


np.save("study.npy", table(2_000, 1))
if "large" in sys.argv:
    np.save("large.npy", table(1_000_000, 2))
