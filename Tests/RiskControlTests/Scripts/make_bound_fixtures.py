"""Writes ../Fixtures/bounds.json: confidence bounds evaluated with 60 decimal digits.

Needs mpmath. Written from the papers' formulas, with none of the program's shortcuts:
Waudby-Smith and Ramdas (2023), Bates et al. (2021, propositions 5 and 6), Maurer and Pontil (2009, theorem 4).
"""

import json
import os
import random

from mpmath import binomial, ceil, exp, log, mp, mpf, sqrt

mp.dps = 60


def stakes(xs, delta, bound):
    n = len(xs)
    total, squares, out = mpf(0), mpf(0), []
    variance = bound * bound / 4
    for t, x in enumerate(xs, start=1):
        out.append(min(sqrt(2 * log(1 / delta) / (n * variance)), 1 / bound))
        total += x
        mean = (bound / 2 + total) / (1 + t)
        squares += (x - mean) ** 2
        variance = (bound * bound / 4 + squares) / (1 + t)
    return out


def max_log_capital(xs, nu, m):
    best, capital = mpf(0), mpf(1)
    for x, v in zip(xs, nu):
        capital *= 1 - v * (x - m)
        if capital <= 0:
            break
        best = max(best, log(capital))
    return best


def bisect(passes, low, high):
    if passes(low):
        return low
    if not passes(high):
        return high
    for _ in range(160):
        middle = (low + high) / 2
        if passes(middle):
            high = middle
        else:
            low = middle
    return high


def hb_p(xs, bound, target):
    n = len(xs)
    total = sum(max(x, 0) for x in xs) / bound
    alpha = target / bound
    if alpha <= 0:
        return mpf(1)
    if alpha >= 1:
        return mpf(0)
    a = min(total / n, alpha)
    h = (a * log(a / alpha) if a > 0 else 0) + ((1 - a) * log((1 - a) / (1 - alpha)) if a < 1 else 0)
    k = int(ceil(total))
    tail = sum(binomial(n, j) * alpha**j * (1 - alpha) ** (n - j) for j in range(min(k, n) + 1))
    return min(mpf(1), exp(-n * h), exp(1) * tail)


def hoeffding_p(xs, bound, target):
    n = len(xs)
    gap = max(target - sum(max(x, 0) for x in xs) / n, 0) / bound
    return exp(-2 * n * gap * gap)


def bernstein_bound(xs, bound, delta):
    n = len(xs)
    ys = [max(x, 0) for x in xs]
    mean = sum(ys) / n
    variance = sum((y - mean) ** 2 for y in ys) / (n - 1)
    return mean + sqrt(2 * variance * log(2 / delta) / n) + 7 * bound * log(2 / delta) / (3 * (n - 1))


def exact(x):
    """The value of the 64-bit float that a reader of the JSON will get."""
    return mpf(float(x))


def cases():
    rng = random.Random(11)
    yield "zeros 100", [0.0] * 100, 1.0
    yield "zeros 1000", [0.0] * 1000, 1.0
    yield "zeros 50, B = 2", [0.0] * 50, 2.0
    yield "ones", [1.0] * 40, 1.0
    yield "one sample", [0.0], 1.0
    yield "all at minus B", [-1.0] * 30, 1.0
    for p, n in [(0.02, 400), (0.1, 150), (0.5, 90)]:
        yield f"bernoulli {p}", [1.0 if rng.random() < p else 0.0 for _ in range(n)], 1.0
    yield "signed", [rng.choice([-1.0, 0.0, 0.0, 0.0, 1.0]) for _ in range(200)], 1.0
    yield "signed fractions", [round(rng.uniform(-0.4, 0.5), 3) for _ in range(180)], 1.0
    yield (
        "heavy at the bound, B = 2",
        [2.0 if rng.random() < 0.08 else round(rng.uniform(0, 0.1), 3) for _ in range(220)],
        2.0,
    )
    yield "brier gap, B = 2", [round(rng.gauss(0.05, 0.3), 3) for _ in range(250)], 2.0
    yield "small B", [round(rng.uniform(0, 0.25), 4) for _ in range(120)], 0.25
    yield "tenths", [0.1] * 10 + [0.0] * 40, 1.0


out = []
for name, floats, b in cases():
    for delta_float in (0.1, 0.01):
        xs, bound, delta = [exact(x) for x in floats], exact(b), exact(delta_float)
        nu = stakes(xs, delta, bound)
        targets = [0.02 * b, 0.1 * b, 0.35 * b]
        case = {
            "name": name,
            "delta": delta_float,
            "lossBound": b,
            "losses": floats,
            "targets": targets,
            "wsr": float(bisect(lambda m: max_log_capital(xs, nu, m) >= log(1 / delta), mpf(0), bound)),
            "wsrP": [float(min(1, exp(-max_log_capital(xs, nu, exact(t))))) for t in targets],
            "hb": float(bisect(lambda m: hb_p(xs, bound, m) <= delta, mpf(0), bound)),
            "hbP": [float(hb_p(xs, bound, exact(t))) for t in targets],
            "hoeffding": float(bisect(lambda m: hoeffding_p(xs, bound, m) <= delta, mpf(0), bound)),
            "hoeffdingP": [float(hoeffding_p(xs, bound, exact(t))) for t in targets],
            "bernstein": float(min(bound, bernstein_bound(xs, bound, delta))) if len(xs) > 1 else b,
        }
        if set(floats) == {0.0}:
            case["losses"], case["zeros"] = [], len(floats)
        out.append(case)

tails = []
for n, k, p in [
    (10, 3, 0.5),
    (100, 0, 0.02),
    (100, 5, 0.1),
    (1000, 20, 0.05),
    (1000, 80, 0.05),
    (5000, 3, 0.01),
    (20000, 150, 0.01),
    (200, 199, 0.5),
    (50, 49, 0.999),
    (12, 6, 1e-6),
    (2000, 1000, 0.5),
]:
    alpha = exact(p)
    total = sum(binomial(n, j) * alpha**j * (1 - alpha) ** (n - j) for j in range(k + 1))
    tails.append({"n": n, "k": k, "p": p, "cumulative": float(total)})

here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "..", "Fixtures", "bounds.json"), "w") as f:
    json.dump({"bounds": out, "binomial": tails}, f, separators=(",", ":"))
