"""Every quantity of a results file by an independent route: transformers' forward, numpy's linear algebra, definitions.

Nothing here comes from the C++ program: attentions and residual vectors are transformers' (eager, float64), spectra
are numpy's SVD, and the sheaf Laplacian's eigenvalues are formed as products one by one.
"""

import sys
from pathlib import Path

import numpy as np
import scipy.linalg

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


def product_spectrum(left, right):
    """Of a head's map left @ right, (D, d) by (d, D), from all D×D entries of it. `_error`: how far numpy's may be off."""
    product, d = left @ right, right.shape[0]
    s = np.linalg.svd(product, compute_uv=False)
    error = EPS * (len(product) * s[0] + d * np.linalg.norm(left) * np.linalg.norm(right))
    assert (s[d:] <= error).all()  # its rank is d
    s, squares = s[:d], (product**2).sum()
    with np.errstate(invalid="ignore"):
        return {
            "singular_values": s,
            "spectral_norm": s[0],
            "frobenius_norm": np.sqrt(squares),
            "effective_rank": np.exp(entropy(s / s.sum())) if s[0] > 0 else np.nan,
            "stable_rank": squares / s[0] ** 2,
            "_error": error,
        }


def output_value_eigenvalues(w_o, w_v):
    """The d eigenvalues of w_v @ w_o: those of the D×D map w_o @ w_v, which has D − d zeros besides."""
    values = np.linalg.eigvals(w_o @ w_v)
    return values[np.argsort(-np.abs(values))][: len(w_v)]


def eigenvalue_errors(w_o, w_v):
    """How far each eigenvalue λ of w_v @ w_o may be off, to first order, in the d×d and in the D×D route together: the condition
    of λ, ‖x‖‖y‖/|yᴴx| of its right and left eigenvectors, times the rounding of the product and of the QR iteration. The D×D map
    has the eigenvectors w_o x and yᴴ w_v, whose inner product is λ yᴴx."""
    values, y, x = scipy.linalg.eig(w_v @ w_o, left=True, right=True)
    aligned = np.abs((y.conj() * x).sum(0))
    of_whole = np.linalg.norm(w_o @ x, axis=0) * np.linalg.norm(w_v.T @ y.conj(), axis=0) / np.abs(values)
    (hidden, d), factors = w_o.shape, np.linalg.norm(w_o) * np.linalg.norm(w_v)
    small = d * np.linalg.norm(w_v @ w_o) + hidden * factors
    whole = hidden * np.linalg.norm(w_o @ w_v) + d * factors
    return EPS / aligned * (small + whole * of_whole)


def patterns(a, scores, ids):
    """Of one head, by the definitions: a and scores (n, n); scores as they enter the softmax, -inf where masked."""
    n, ids = len(ids), np.asarray(ids)
    later, places = slice(1, None), np.arange(n)
    earlier = np.tril(ids[:, None] == ids[None, :], -1)  # [i, j]: token j is token i, and before it
    followed = np.tril(earlier, -2)  # …, and the one after it is before i too
    after = np.zeros((n, n), dtype=bool)
    after[:, 1:] = followed[:, :-1]
    log_sum_exp = [np.log(np.exp(row - row.max()).sum()) + row.max() for row in scores]

    def mean(values):
        return np.mean(values) if len(values) else np.nan

    return {
        "first_token_mass": mean(a[later, 0]),
        "self_mass": mean(np.diagonal(a)[later]),
        "previous_token_mass": mean(np.diagonal(a, -1)),
        "mean_distance": mean((a * (places[:, None] - places[None, :])).sum(1)[later]),
        "duplicate_token_score": mean((a * earlier).sum(1)[earlier.any(1)]),
        "induction_score": mean((a * after).sum(1)[followed.any(1)]),
        "max_logit": scores.max(),
        "mean_log_sum_exp": mean(log_sum_exp),
    }


def attention_statistics(a):
    n = a.shape[0]
    rows = np.mean([entropy(row) for row in a])
    kept = a[a > 1e-10]
    flat = entropy(kept / kept.sum()) / np.log(kept.size) if kept.size >= 2 else 0.0
    return {"row_entropy": rows, "sparsity": (a < 0.01).sum() / n**2, "flat_entropy": flat}


def token_geometry(h):
    """Of one boundary (n, hidden)."""
    sizes = np.abs(h)
    place = np.unravel_index(sizes.argmax(), h.shape)
    centred = h - h.mean()
    p = np.linalg.svd(h / sizes.max(), compute_uv=False) ** 2
    unit = h / np.linalg.norm(h, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[~np.eye(len(h), dtype=bool)]
    return {
        "max_abs_entry": sizes.max(),
        "max_abs_token": place[0],
        "max_abs_channel": place[1],
        "massive_ratio": sizes.max() / np.sort(sizes, axis=None)[(h.size - 1) // 2],
        "kurtosis": (centred**4).mean() / (centred**2).mean() ** 2 - 3,
        "matrix_entropy": entropy(p / p.sum()),
        "anisotropy": cosines.mean() if len(cosines) else np.nan,
    }


def last_tokens(folder, prompts, exact=False):
    """Vectors of the prompts' last tokens (prompt, boundary, hidden)."""
    return np.array([forward.boundaries[:, -1] for forward in oracle.oracle_forward(folder, prompts, exact)])


def last_token_geometry(vectors):
    """Of vectors (N, hidden): what a set has at one boundary."""
    def rank(weights):
        return np.exp(entropy(weights / weights.sum()))

    centered = np.linalg.svd(vectors - vectors.mean(0), compute_uv=False)[: len(vectors) - 1]
    s = np.linalg.svd(vectors, compute_uv=False)
    eigenvalues = centered**2 / (len(vectors) - 1)
    ranks = np.arange(12, 101)
    ranks = ranks[ranks <= (centered > 2.0**-23 * max(vectors.shape) ** 0.5 * s[0]).sum()]
    alpha = r2 = np.nan
    if len(ranks) >= 10:
        # As polyfit weighs residuals, not their squares.
        line = np.polyfit(np.log(ranks), np.log(eigenvalues[ranks - 1]), 1, w=ranks**-0.5)
        y = np.log(eigenvalues[ranks - 1])
        alpha, r2 = -line[0], 1 - ((y - np.polyval(line, np.log(ranks))) ** 2).sum() / ((y - y.mean()) ** 2).sum()
    return {"singular_values": s, "centered_singular_values": centered, "rankme": rank(s), "rankme_covariance": rank(centered**2),
            "stable_rank": (s**2).sum() / s[0] ** 2, "alpha_req": alpha, "alpha_req_r2": r2}


def mean_cosine(a, b):
    """Over rows."""
    with np.errstate(invalid="ignore"):
        return ((a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))).mean()


def predictions(logits, lens, ids):
    """logits (n, vocab) of every token; lens (boundaries, vocab) of the last one, the final one last."""
    log_p, of_lens, n = oracle.log_softmax(logits), oracle.log_softmax(lens), len(ids)
    nll = [-log_p[i, ids[i + 1]] for i in range(n - 1)]
    right = [log_p[i].argmax() == ids[i + 1] for i in range(n - 1)]
    final, best = of_lens[-1], of_lens[-1].argmax()
    return {
        "next_token_nll": np.mean(nll) if nll else np.nan,
        "perplexity": np.exp(np.mean(nll)) if nll else np.nan,
        "top1_accuracy": np.mean(right) if right else np.nan,
        "prediction_entropy": np.mean([-(np.exp(row) * row).sum() for row in log_p]),
        "lens_kl": np.array([(np.exp(final) * (final - row)).sum() for row in of_lens]),
        "lens_entropy": np.array([-(np.exp(row) * row).sum() for row in of_lens]),
        "lens_rank": np.array([(row > row[best]).sum() for row in of_lens]),
    }


def spacing(levels, error):
    """Mean ratio of neighbouring spacings, and how many levels are apart by more than twice their error."""
    groups = [[]]
    for level in np.sort(levels):
        if groups[-1] and level - groups[-1][-1] > 2 * error:
            groups.append([])
        groups[-1].append(level)
    middles = np.array([(group[0] + group[-1]) / 2 for group in groups if group])
    gaps = np.diff(middles)
    ratios = np.minimum(gaps[1:], gaps[:-1]) / np.maximum(gaps[1:], gaps[:-1])
    return (ratios.mean() if len(ratios) else np.nan), len(middles)


def token_graph(a, h, w_v, hidden):
    """One head: a (n, n); h (n, hidden), what enters the block; w_v (d, hidden). `_spread`: of the levels, the largest over the
    smallest gap between two that are not the same, which is how much an error of them shows in the ratios."""
    n = len(a)
    directed = np.diag(np.diag(a.sum(0) / (n - np.arange(n))) - a)
    weights = (a + a.T) / 2
    np.fill_diagonal(weights, 0)
    laplacian = np.diag(weights.sum(1)) - weights
    mu, squares = np.linalg.eigvalsh(laplacian), np.linalg.svd(w_v, compute_uv=False) ** 2
    zero = max(n, hidden) * EPS
    mu, squares = mu[mu > zero * mu.max()], squares[squares > zero * squares.max()]
    error = 2 * (8 + 2 * np.sqrt(2 * n * (n + 16))) * EPS / 2 * (mu.max() if len(mu) else 0)
    s = np.linalg.svd(a, compute_uv=False)
    top = np.full(10, np.nan)
    top[: min(n, 10)] = np.sort(directed)[::-1][:10]
    of_graph, of_sheaf = spacing(mu, error), spacing(np.outer(mu, squares).ravel(), error * squares.max())
    return {
        "directed_laplacian_mean": directed.mean(),
        "directed_laplacian_max": directed.max(),
        "directed_laplacian_top": top,
        "graph_spacing_ratio": of_graph[0],
        "graph_num_levels": of_graph[1],
        "sheaf_spacing_ratio": of_sheaf[0],
        "sheaf_num_levels": of_sheaf[1],
        "dirichlet_energy": np.trace(h.T @ laplacian @ h) / (h**2).sum(),
        "attention_spectral_norm": s[0],
        "attention_effective_rank": np.exp(entropy(s / s.sum())),
    }


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
        model = oracle.load_model(folder)
        self.weights = oracle.attention_weights(folder, model)  # one dict a layer
        self.mlp = oracle.mlp_weights(folder, model)
        config = model.config.get_text_config()
        self.num_heads = config.num_attention_heads
        self.hidden = config.hidden_size
        self.unembedding = model.get_output_embeddings().weight.double().numpy()
        self.head_dim = self.weights[0]["W_Q"].shape[0] // self.num_heads
        self.num_kv_heads = self.weights[0]["W_V"].shape[0] // self.head_dim

    def group_of(self, head):
        return head * self.num_kv_heads // self.num_heads

    def head_slice(self, layer, matrix, head):
        w, d = self.weights[layer][matrix], self.head_dim
        group = self.group_of(head)
        if matrix == "W_O":
            return w[:, head * d : (head + 1) * d]
        row = head if matrix == "W_Q" else group
        return w[row * d : (row + 1) * d]

    def heads(self):
        return [
            [[spectrum(self.head_slice(layer, m, h)) for h in range(self.num_heads)] for m in MATRICES]
            for layer in range(len(self.weights))
        ]

    def circuit_factors(self, layer, head):
        """{"ov": (D, d) and (d, D), "qk": the same}: whose products are the head's two maps."""
        w_q, w_k, w_v, w_o = (self.head_slice(layer, matrix, head) for matrix in MATRICES)
        return {"ov": (w_o, w_v), "qk": (w_q.T, w_k)}

    def patterns(self, prompts, exact=False):
        """One dict a prompt, of arrays (layer, head). `_scores` (layer, 1): the largest score by its absolute value."""
        values = []
        for ids, forward in zip(prompts, oracle.oracle_forward(self.folder, prompts, exact)):
            heads = [[patterns(a, s, ids) for a, s in zip(*layer)] for layer in zip(forward.attentions, forward.scores)]
            values.append({name: np.array([[head[name] for head in layer] for layer in heads]) for name in heads[0][0]})
            sizes = np.abs(np.where(np.isfinite(forward.scores), forward.scores, 0))
            values[-1]["_scores"] = sizes.max(axis=(1, 2, 3))[:, None]
        return values

    def predictions(self, ids, exact=False):
        """Of one prompt, by the model's own head."""
        model = oracle.load_model(self.folder)
        forward = oracle.oracle_forward(self.folder, [ids], exact)[0]
        lens = oracle.lens_logits(model, ids, forward.boundaries, exact)[:, -1]
        return predictions(forward.logits, lens, ids)

    def graphs(self, ids, exact=False):
        """One prompt's token graphs: arrays (layer, head, …)."""
        forward = oracle.oracle_forward(self.folder, [ids], exact)[0]
        heads = [[token_graph(a, forward.boundaries[layer], self.head_slice(layer, "W_V", h), self.hidden)
                  for h, a in enumerate(forward.attentions[layer])] for layer in range(len(self.weights))]
        return {name: np.array([[head[name] for head in layer] for layer in heads]) for name in heads[0][0]}

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
        geometries = [token_geometry(h) for h in forward.boundaries]
        found |= {name: np.array([of_boundary[name] for of_boundary in geometries]) for name in geometries[0]}
        entering, leaving = forward.boundaries[:-1], forward.boundaries[1:]
        found["boundary_cosine"] = np.array([mean_cosine(h, after) for h, after in zip(entering, leaving)])
        for part, written in zip(("attention", "mlp"), oracle.block_writes(oracle.load_model(self.folder), ids, exact)):
            found[f"{part}_write_norm"] = np.linalg.norm(written, axis=-1).mean(1)
            found[f"{part}_write_cosine"] = np.array([mean_cosine(h, added) for h, added in zip(entering, written)])
        return found
