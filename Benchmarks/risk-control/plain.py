"""The study of `egress study` in plain NumPy and SciPy: crc, ucb with betting bounds, ltt with Hoeffding-Bentkus.

It is written the usual way, with the obvious savings: each row's upper bound is found once a trial by Brent's method on
the vectorised log-capital and then compared with every epsilon, and p-values stop at the first failure."""

import sys
import time

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom


def wsr_upper(x, delta, bound=1.0):
    n = len(x)
    t = np.arange(1, n + 1)
    mean = (bound / 2 + np.cumsum(x)) / (1 + t)
    variance = (bound**2 / 4 + np.cumsum((x - mean) ** 2)) / (1 + t)
    lagged = np.concatenate([[bound**2 / 4], variance[:-1]])
    nu = np.minimum(np.sqrt(2 * np.log(1 / delta) / (n * lagged)), 1 / bound)

    def excess(m):
        with np.errstate(divide="ignore"):
            return max(np.max(np.cumsum(np.log(np.maximum(1 - nu * (x - m), 0)))), 0.0) - np.log(1 / delta)

    if excess(0.0) >= 0:
        return 0.0
    if excess(bound) < 0:
        return bound
    return brentq(excess, 0.0, bound, xtol=1e-10)


def hb_p(x, alpha):
    n, total = len(x), np.maximum(x, 0).sum()
    mean = min(total / n, alpha)
    h = (mean * np.log(mean / alpha) if mean > 0 else 0.0) + (1 - mean) * np.log((1 - mean) / (1 - alpha))
    return min(1.0, np.exp(-n * h), np.e * binom.cdf(np.ceil(total), n, alpha))


def study(losses, epsilons, n, trials, delta, seed=0):
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(trials):
        order = rng.permutation(losses.shape[1])
        calibration, test = losses[:, order[:n]], losses[:, order[n:]]
        risks = test.mean(axis=1)
        means = calibration.mean(axis=1)
        crc = [np.flatnonzero(np.r_[True, means[1:] <= ((n + 1) * e - 1) / n])[-1] for e in epsilons]
        bounds, ucb = [0.0], []
        for row in calibration[1:]:
            bounds.append(wsr_upper(row, delta))
            if bounds[-1] >= epsilons[-1]:
                break
        for e in epsilons:
            failed = np.flatnonzero(np.array(bounds) >= e)
            ucb.append(failed[0] - 1 if len(failed) else len(bounds) - 1)
        ltt = []
        for e in epsilons:
            last = 0
            while last + 1 < len(calibration) and hb_p(calibration[last + 1], e) <= delta:
                last += 1
            ltt.append(last)
        rows.append([risks[crc], risks[ucb], risks[ltt]])
    return np.mean(rows, axis=0)


if __name__ == "__main__":
    table = np.load(sys.argv[1])
    trials = int(sys.argv[2])
    grid = np.round(np.arange(1, 20) * 0.01, 10)
    start = time.perf_counter()
    result = study(table[:, 1:], grid, 1000, trials, 0.1)
    seconds = time.perf_counter() - start
    for name, values in zip(("crc", "ucb/wsr", "ltt/hb"), result):
        print(f"{name:8} mean test risk at epsilon 0.05 {values[4]:.4f}, 0.1 {values[9]:.4f}")
    print(f"{seconds:.2f} s for {trials} trials")
