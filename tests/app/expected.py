"""Every quantity of a results file by an independent route: transformers' forward, numpy's linear algebra, definitions.

Nothing here comes from the C++ program: attentions and residual vectors are transformers' (eager, float64), spectra
are numpy's SVD, and the sheaf Laplacian's eigenvalues are formed as products one by one.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "oracle"))
import oracle  # noqa: E402

MATRICES = ("W_Q", "W_K", "W_V", "W_O")
EPS = 2.0**-52


def entropy(p):
    p = np.asarray(p, dtype=np.float64)
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def spectrum(w):
    """What section 1 derives of one matrix."""
    s = np.linalg.svd(w, compute_uv=False)
    return {
        "singular_values": s,
        "spectral_norm": s[0],
        "frobenius_norm": np.sqrt((w**2).sum()),
        "effective_rank": np.exp(entropy(s / s.sum())),
        "stable_rank": (w**2).sum() / s[0] ** 2,
        "condition_number": s[0] / s[-1] if s[-1] > 0 else np.inf,
        "numerical_rank": (s > s[0] * max(w.shape) * 2.0**-23).sum(),
        "entry_mean": w.mean(),
        "entry_std": w.std(ddof=1),
    }


def attention_statistics(a):
    n = a.shape[0]
    rows = np.mean([entropy(row) for row in a])
    kept = a[a > 1e-10]
    flat = entropy(kept / kept.sum()) / np.log(kept.size) if kept.size >= 2 else 0.0
    return {"row_entropy": rows, "sparsity": (a < 0.01).sum() / n**2, "flat_entropy": flat}


def canonical(levels, betas):
    """ln Z, U, C, S of the levels at each beta, by their definitions; NaN without levels."""
    found = {name: np.full(len(betas), np.nan) for name in ("log_partition_nonzero", "internal_energy", "heat_capacity", "thermal_entropy")}
    if levels.size == 0:
        return found
    for i, beta in enumerate(betas):
        x = -beta * levels.astype(np.longdouble)
        log_z = x.max() + np.log(np.exp(x - x.max()).sum())
        p = np.exp(x - log_z)
        energy = (p * levels).sum()
        found["log_partition_nonzero"][i] = log_z
        found["internal_energy"][i] = energy
        found["heat_capacity"][i] = beta**2 * (p * (levels - energy) ** 2).sum()
        found["thermal_entropy"][i] = -(p[p > 0] * np.log(p[p > 0])).sum()
    return found


def sheaf(a, w_v, hidden, betas):
    """One head: a (n, n), w_v (d, hidden)."""
    n = a.shape[0]
    w = (a + a.T) / 2
    np.fill_diagonal(w, 0)
    mu = np.linalg.eigvalsh(np.diag(w.sum(1)) - w)
    sigma2 = np.zeros(hidden)
    s = np.linalg.svd(w_v, compute_uv=False)
    sigma2[: s.size] = s**2
    mu = np.where(mu <= max(n, hidden) * EPS * mu.max(), 0.0, mu)
    sigma2 = np.where(sigma2 <= max(n, hidden) * EPS * sigma2.max(), 0.0, sigma2)
    products = np.outer(mu, sigma2).ravel()  # all n * hidden eigenvalues
    trace = (a.sum() - np.trace(a)) * (w_v**2).sum()
    nonzero = products[products > 0]
    log_partition = []
    for beta in betas:
        x = -beta * products
        log_partition.append(x.max() + np.log(np.exp(x - x.max()).sum()))
    return {
        "trace": trace,
        "lambda_max": products.max(),
        "spectral_gap": nonzero.min() if nonzero.size else np.nan,
        "nullity": products.size - nonzero.size,
        "spectral_entropy": entropy(nonzero / nonzero.sum()) if nonzero.size else 0.0,
        "log_partition": np.array(log_partition),
        "graph_lambda_2": mu[1] if n > 1 else np.nan,
        "_graph_lambda_max": mu.max(),  # no dataset: how good the graph's thermodynamics can be
        **canonical(nonzero, betas),
        **{f"graph_{name}": values for name, values in canonical(mu[mu > 0], betas).items()},
    }


class ExpectedModel:
    """A model of the hub's format, by transformers."""

    def __init__(self, folder):
        self.folder = folder
        self.weights = oracle.attention_weights(folder)  # one dict a layer
        model = oracle.load_model(folder)
        config = model.config.get_text_config()
        self.num_heads = config.num_attention_heads
        self.hidden = config.hidden_size
        self.unembedding = model.get_output_embeddings().weight.double().numpy()
        self.head_dim = self.weights[0]["W_Q"].shape[0] // self.num_heads
        self.num_kv_heads = self.weights[0]["W_V"].shape[0] // self.head_dim

    def head_slice(self, layer, matrix, head):
        w, d = self.weights[layer][matrix], self.head_dim
        group = head * self.num_kv_heads // self.num_heads
        if matrix == "W_O":
            return w[:, head * d : (head + 1) * d]
        row = head if matrix == "W_Q" else group
        return w[row * d : (row + 1) * d]

    def matrices(self):
        return [[spectrum(layer[m]) for m in MATRICES] for layer in self.weights]

    def heads(self):
        return [
            [[spectrum(self.head_slice(layer, m, h)) for h in range(self.num_heads)] for m in MATRICES]
            for layer in range(len(self.weights))
        ]

    def prompt(self, ids, betas, exact=False):
        """All quantities of one prompt, as arrays without the prompt dimension. `exact`: transformers' float32 steps in
        float64 (oracle.py)."""
        forward = oracle.oracle_forward(self.folder, [ids], exact)[0]
        layers = len(self.weights)
        found = {}

        def put(name, index, value, shape):
            found.setdefault(name, np.full(shape, np.nan))[index] = value

        for layer in range(layers):
            attentions = forward.attentions[layer]
            for h in range(self.num_heads):
                for name, value in attention_statistics(attentions[h]).items():
                    put(name, (layer, h), value, (layers, self.num_heads))
                w_v = self.head_slice(layer, "W_V", h)
                for name, value in sheaf(attentions[h], w_v, self.hidden, betas).items():
                    shape = (layers, self.num_heads) + np.shape(value)
                    put(name, (layer, h), value, shape)
            mean = attentions.mean(0)
            for name, value in attention_statistics(mean).items():
                put(name + "_mean_attention", layer, value, (layers,))
            first = (self.head_slice(layer, "W_V", 0) ** 2).sum()
            put("trace_mean_attention", layer, (mean.sum() - np.trace(mean)) * first, (layers,))
            put("contraction_ratio", layer, np.sqrt(mean[np.tril_indices(len(mean))]).mean(), (layers,))
        found["trace_multihead"] = found["trace"].sum(1)
        found["free_energy"] = -found["log_partition"] / np.asarray(betas)
        norms = np.linalg.norm(forward.boundaries, axis=-1)
        found["last_token_norm"] = norms[:, -1]
        found["mean_token_norm"] = norms.mean(1)
        final = np.linalg.norm(forward.final_norm, axis=-1)
        found["final_norm_last_token"] = final[-1]
        found["final_norm_mean_token"] = final.mean()
        found["gain"] = norms[1:, -1] / norms[:-1, -1]
        found["last_gain_after_norm"] = final[-1] / norms[-2, -1]
        return found
