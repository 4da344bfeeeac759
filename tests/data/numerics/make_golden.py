"""Makes the expected values of tests/numerics by other means than the code under test.

Exact rational arithmetic for the exact sums, mpmath with 60 digits for singular values, numpy float64 with every matrix
built in full (the Kronecker product too) for the rest. Run: python make_golden.py (needs numpy and mpmath).
"""

import json
import math
import random
import sys
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np

HERE = Path(__file__).resolve().parent


def write(name, cases):
    rows = ",\n".join(json.dumps(case) for case in cases)
    (HERE / name).write_text("[\n" + rows + "\n]\n")


def json_number(x):
    x = float(x)
    return x if math.isfinite(x) else ("nan" if math.isnan(x) else ("inf" if x > 0 else "-inf"))


def flat(a):
    return [float(x) for x in np.asarray(a, dtype=np.float64).ravel()]


# ---------------------------------------------------------------- exact sums

def nearest_double(fraction):
    try:
        return float(fraction)  # int / int true division is correctly rounded, subnormals included
    except OverflowError:
        return math.inf if fraction > 0 else -math.inf


def nearest_root(fraction):
    """Nearest double of sqrt(fraction): by integer arithmetic on 400 more bits than needed."""
    if fraction == 0:
        return 0.0
    shift = 2600
    scaled = (fraction.numerator << (2 * shift)) // fraction.denominator
    return nearest_double(Fraction(math.isqrt(scaled), 1 << shift))


def sum_case(name, terms):
    exact = [Fraction(t) for t in terms]
    count = len(exact)
    total, squares = sum(exact, Fraction(0)), sum((t * t for t in exact), Fraction(0))
    variance = (count * squares - total * total) / (count * (count - 1)) if count > 1 else None
    return {
        "name": name,
        "terms": [float(t) for t in terms],
        "sum": json_number(nearest_double(total)),
        "sum_of_squares": json_number(nearest_double(squares)),
        "mean": json_number(nearest_double(total / count)) if count else "nan",
        "std": "nan" if variance is None else json_number(nearest_root(variance)),
    }


def exact_sums():
    rng = random.Random(1)
    tiny = 5e-324
    huge = sys.float_info.max
    cases = [
        ("empty", []),
        ("one", [0.1]),
        ("cancellation_to_subnormal", [1e308, 1e-320, -1e308]),
        ("subnormals", [tiny, 3 * tiny, -tiny, 2.0**-1050]),
        ("smallest_and_largest", [huge, tiny, -tiny, 1.0]),
        ("overflow", [huge, huge, huge]),
        ("overflow_comes_back", [huge, huge, -huge]),
        ("half_way_down_to_even", [1.0, 2.0**-53]),
        ("half_way_up_to_even", [1.0 + 2.0**-52, 2.0**-53]),
        ("above_half_way", [1.0, 2.0**-53, tiny]),
        ("below_half_way", [1.0, 2.0**-53, -tiny]),
        ("negative_half_way", [-1.0, -(2.0**-53), -tiny]),
        ("rounds_up_to_overflow", [huge, 2.0**970]),
        ("just_below_overflow", [huge, 2.0**970, -tiny]),
        ("constant", [0.1] * 7),
        ("constant_huge", [1e300] * 5),
        ("constant_tiny", [3e-310] * 5),
        ("nearly_constant", [1e8 + i * 2.0**-26 for i in range(6)]),
        ("subnormal_mean", [tiny, tiny, 2 * tiny]),
        ("mean_half_way", [tiny, 0.0]),
        ("zeros", [0.0, -0.0, 0.0]),
        ("uniform", [rng.uniform(-1, 1) for _ in range(50)]),
        ("all_exponents", [math.ldexp(rng.uniform(-1, 1), rng.randrange(-1073, 1024)) for _ in range(120)]),
        ("all_small", [math.ldexp(rng.uniform(-1, 1), rng.randrange(-1073, -960)) for _ in range(40)]),
        ("all_large", [math.ldexp(rng.uniform(-1, 1), rng.randrange(980, 1024)) for _ in range(40)]),
    ]
    mixed = [math.ldexp(rng.uniform(-1, 1), rng.randrange(-300, 300)) for _ in range(40)]
    cases.append(("cancelling_pairs", mixed + [-x for x in mixed] + [1.5 * tiny, 0.3]))
    write("exact_sums.json", [sum_case(*case) for case in cases])


# ---------------------------------------------------------------- singular values

def mp_singular_values(a):
    with mpmath.workdps(60):
        m = mpmath.matrix([[mpmath.mpf(float(x)) for x in row] for row in a])
        if m.rows < m.cols:
            m = m.T
        s = mpmath.svd_r(m, compute_uv=False)
        return sorted((float(x) for x in s), reverse=True)


def kahan(n, theta):
    c, s = math.cos(theta), math.sin(theta)
    a = np.eye(n)
    a[np.triu_indices(n, 1)] = -c
    return np.diag(s ** np.arange(n)) @ a


def singular_value_cases():
    rng = np.random.default_rng(2)
    float32 = lambda a: np.asarray(a, dtype=np.float32).astype(np.float64)
    matrices = {
        "gaussian_square": rng.standard_normal((16, 16)),
        "gaussian_float32_tall": float32(rng.standard_normal((30, 9))),
        "gaussian_wide": rng.standard_normal((9, 30)),
        "nearly_square": rng.standard_normal((13, 12)),
        "kahan": kahan(20, 1.2),
        "hilbert": np.array([[1.0 / (i + j + 1) for j in range(12)] for i in range(12)]),
        "graded": rng.standard_normal((12, 12)) * 10.0 ** -np.arange(12),
        "graded_rows": (rng.standard_normal((24, 8)).T * 10.0 ** -np.arange(24)).T,
        "rank_one": np.outer(np.arange(1, 8), np.arange(1, 6)),
        "column": rng.standard_normal((40, 1)),
        "row": rng.standard_normal((1, 40)),
        "scalar": np.array([[-3.5]]),
        "zero": np.zeros((4, 3)),
        "huge": rng.standard_normal((6, 5)) * 2.0**1015,
        "tiny": rng.standard_normal((6, 5)) * 2.0**-1030,
        "wide_range": np.array([[1e300, 0, 1e-300], [0, 1.0, 0], [1e-300, 0, 1e-250]]),
    }
    cases = []
    for name, a in matrices.items():
        rows, columns = a.shape
        cases.append({"name": name, "rows": rows, "columns": columns, "entries": flat(a), "sigma": mp_singular_values(a)})
    write("singular_values.json", cases)


# ---------------------------------------------------------------- section 1 and 2: summaries

def summary_cases():
    rng = np.random.default_rng(3)
    matrices = {
        "gaussian": rng.standard_normal((12, 7)).astype(np.float32).astype(np.float64),
        "offset": 1000.0 + 1e-3 * rng.standard_normal((5, 9)),
        "low_rank": rng.standard_normal((10, 2)) @ rng.standard_normal((2, 8)),
        "one_entry": np.array([[2.5]]),
    }
    cases = []
    for name, a in matrices.items():
        s = np.linalg.svd(a, compute_uv=False)
        if name == "low_rank":
            s[2:] = 0.0  # exact rank: what is left there is rounding
        p = s[s > 0] / s.sum()
        exact = [Fraction(x) for x in flat(a)]
        count, total = len(exact), sum(exact)
        variance = (sum(x * x for x in exact) - total * total / count) / (count - 1) if count > 1 else None
        cases.append({
            "name": name, "rows": a.shape[0], "columns": a.shape[1], "entries": flat(a), "sigma": flat(s),
            "spectral_norm": s[0], "frobenius_norm": float(np.linalg.norm(a)),
            "effective_rank": float(np.exp(-(p * np.log(p)).sum())),
            "stable_rank": float(np.linalg.norm(a) ** 2 / s[0] ** 2),
            "condition_number": json_number(s[0] / s[-1] if s[-1] > 0 else math.inf),
            "numerical_rank": int((s > s[0] * max(a.shape) * 2.0**-23).sum()),
            "entry_mean": nearest_double(total / count),
            "entry_std": "nan" if variance is None else nearest_root(variance),
            "row_norms": flat(np.linalg.norm(a, axis=1)),
        })
    write("summaries.json", cases)


# ---------------------------------------------------------------- section 3 and 4: attention and sheaf

def causal_attention(rng, n, sharpness):
    scores = sharpness * rng.standard_normal((n, n))
    scores[np.triu_indices(n, 1)] = -np.inf
    e = np.exp(scores - scores.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32).astype(np.float64)


def attention_quantities(a):
    n = len(a)
    entropy = 0.0
    for i in range(n):
        entropy += -sum(a[i, j] * math.log(a[i, j]) for j in range(n) if a[i, j] != 0)
    kept = [x for x in a.ravel() if x > 1e-10]
    flat_entropy = 0.0
    if len(kept) >= 2:
        total = math.fsum(kept)
        flat_entropy = -math.fsum(x / total * math.log(x / total) for x in kept) / math.log(len(kept))
    return {
        "row_entropy": entropy / n,
        "sparsity": float((a < 0.01).sum() / n**2),
        "flat_entropy": flat_entropy,
    }


def attention_matrices():
    rng = np.random.default_rng(4)
    disconnected = np.zeros((6, 6))
    disconnected[:3, :3] = causal_attention(rng, 3, 1.0)
    disconnected[3:, 3:] = causal_attention(rng, 3, 1.0)
    first_token = np.zeros((5, 5))
    first_token[:, 0] = 1.0
    below_thresholds = np.array([[1.0, 0, 0], [1e-11, 1.0, 0], [5e-3, 9.95e-1, 1e-12]])
    return {
        "one_token": np.ones((1, 1)),
        "two_tokens": causal_attention(rng, 2, 1.0),
        "identity": np.eye(4),
        "first_token": first_token,
        "uniform": np.tril(np.ones((5, 5))) / np.arange(1, 6)[:, None],
        "soft": causal_attention(rng, 7, 0.5),
        "sharp": causal_attention(rng, 8, 6.0),
        "disconnected": disconnected,
        "below_thresholds": below_thresholds,
        "longer": causal_attention(rng, 12, 2.0),
    }


def laplacian(a):
    w = (a + a.T) / 2
    np.fill_diagonal(w, 0.0)
    return np.diag(w.sum(axis=1)) - w


@mpmath.workdps(60)
def canonical(levels, betas):
    """[ln Z, U, C, S] at each beta; nothing without levels."""
    levels = [mpmath.mpf(float(x)) for x in levels]
    found = []
    for beta in map(mpmath.mpf, betas if levels else []):
        weights = [mpmath.exp(-beta * x) for x in levels]
        z = mpmath.fsum(weights)
        p = [w / z for w in weights]
        energy = mpmath.fsum(q * x for q, x in zip(p, levels))
        capacity = beta**2 * mpmath.fsum(q * (x - energy) ** 2 for q, x in zip(p, levels))
        entropy = -mpmath.fsum(q * mpmath.log(q) for q in p)
        found.append([float(x) for x in (mpmath.log(z), energy, capacity, entropy)])
    return found


def sheaf_quantities(a, w_v, betas):
    """From the full nD x nD matrix; what is below 1e-11 of the largest eigenvalue is rounding of a zero."""
    full = np.kron(laplacian(a), w_v.T @ w_v)
    eigenvalues = np.linalg.eigvalsh(full)
    largest = max(eigenvalues[-1], 0.0)
    non_zero = eigenvalues[eigenvalues > 1e-11 * largest] if largest > 0 else np.array([])
    lam = np.concatenate([np.zeros(len(eigenvalues) - len(non_zero)), non_zero])
    p = non_zero / non_zero.sum() if len(non_zero) else non_zero
    log_z = []
    for beta in betas:
        x = -beta * lam
        log_z.append(float(x.max() + math.log(math.fsum(np.exp(x - x.max())))))
    mu = np.linalg.eigvalsh(laplacian(a))
    return {
        "graph_lambda_2": json_number(max(mu[1], 0.0)) if len(mu) > 1 else "nan",
        "non_zero": canonical(non_zero, betas),
        "trace": float(np.trace(full)),
        "lambda_max": float(largest),
        "spectral_gap": json_number(non_zero[0]) if len(non_zero) else "nan",
        "nullity": int(len(lam) - len(non_zero)),
        "spectral_entropy": float(-(p * np.log(p)).sum()) if len(p) else 0.0,
        "log_partition": log_z,
    }


def value_matrices():
    rng = np.random.default_rng(5)
    return {
        "thin": rng.standard_normal((3, 8)),
        "square": rng.standard_normal((5, 5)),
        "rank_deficient": np.outer([1.0, 2.0, -1.0], rng.standard_normal(6)),
        "no_rows": np.zeros((0, 4)),
        "all_zero": np.zeros((2, 4)),
        "one_by_one": np.array([[1.5]]),
    }


def sheaf_cases():
    betas = [float(b) for b in np.logspace(-3, 3, 13)]
    attention = attention_matrices()
    cases = []
    for name, a in attention.items():
        case = {"name": name, "n": len(a), "entries": flat(a), "off_diagonal_sum": math.fsum(flat(a - np.diag(np.diag(a)))),
                "graph_eigenvalues": flat(np.linalg.eigvalsh(laplacian(a)))}
        case.update(attention_quantities(a))
        cases.append(case)
    write("attention.json", cases)
    cases = []
    for attention_name, a in attention.items():
        for value_name, w_v in value_matrices().items():
            if value_name not in ("thin", "square") and attention_name not in ("one_token", "soft", "disconnected"):
                continue
            case = {"attention": attention_name, "value": value_name, "d": w_v.shape[0], "hidden_size": w_v.shape[1],
                    "w_v": flat(w_v), "beta": betas}
            case.update(sheaf_quantities(a, w_v, betas))
            cases.append(case)
    write("sheaf.json", cases)


if __name__ == "__main__":
    exact_sums()
    singular_value_cases()
    summary_cases()
    sheaf_cases()
