"""Checkpoints of random weights, as fast as the disk takes them, in bounded memory, the same for the same seed.

Noise is a table of the normal distribution's 65 536 quantiles, looked up by random 16-bit words: already in the type of the
file, some 600 million numbers a second and core, where drawing normals and rounding them makes 80.

Known spectra: W = U S V^T with V = K1 (x) K2 and U stacked of blocks c (G1 (x) G2), where G and K are random orthogonal
matrices (Haar) of about sqrt(n) rows. So a row of U is an outer product, S scales it, and V^T costs two products of small
matrices a row: 2 (p + q) flops a number instead of 2 n, and any rows are made alone. S lies in random order along the
Kronecker products, so that no head's slice is special.
"""

import contextlib
import hashlib
import json
import math
import os
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import NormalDist

import numpy as np
from geometries import tensors_of

try:
    from scipy.special import ndtri
except ImportError:  # where tools/dev/gpu_bundle is unpacked: the last bits of the noise may differ
    ndtri = np.vectorize(NormalDist().inv_cdf)

CHUNK = 1 << 20  # numbers that are made at once: what stays in a core's cache
STORAGE = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}
WIDTH = {"bfloat16": 2, "float16": 2, "float32": 4, "float64": 8}


def stored(values, dtype):
    """`values` as they lie in the file; bfloat16 as 16-bit words, rounded to nearest, ties to even."""
    if dtype != "bfloat16":
        return values.astype(f"<f{WIDTH[dtype]}", copy=False)
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    rounding = (bits >> 16) & 1
    rounding += 0x7FFF
    rounding += bits
    rounding >>= 16
    return rounding.astype(np.uint16)


def stored_type(dtype):
    return np.dtype(np.uint16 if dtype == "bfloat16" else f"<f{WIDTH[dtype]}")


def generator_of(seed, name):
    """Depends on the tensor's name alone: a model of fewer layers has the same ones."""
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), dtype=np.uint32)
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence([seed, *words.tolist()])))


NORMAL_QUANTILES = ndtri((np.arange(65536) + 0.5) / 65536)
NORMAL_QUANTILES /= NORMAL_QUANTILES.std()


def noise(count, std, generator, dtype):
    """Pieces of `count` normal numbers, as stored."""
    table = stored(std * NORMAL_QUANTILES, dtype)
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        words = generator.bit_generator.random_raw((size + 3) // 4).view(np.uint16)[:size]
        yield np.take(table, words)


def haar(n, generator):
    """A random orthogonal matrix (Mezzadri 2007, arXiv:math-ph/0609050)."""
    q, r = np.linalg.qr(generator.standard_normal((n, n)))
    return q * np.sign(np.diag(r))


def factors_of(n):
    """p <= q with p q = n, as near to each other as they come."""
    p = next(p for p in range(math.isqrt(n), 0, -1) if n % p == 0)
    return p, n // p


def decaying_spectrum(num_rows, num_columns, std, generator):
    """What trained matrices have: an outlier, a body that falls slowly, an end that falls fast; kappa 1e3 to 1e6.

    Descending; the Frobenius norm is that of noise of `std`.
    """
    n = min(num_rows, num_columns)
    kappa = 10 ** generator.uniform(3, 6)
    outlier = 10 ** generator.uniform(0.5, 1.2)
    place = np.arange(n) / max(n - 1, 1)
    values = (kappa / outlier) ** -(place**3) / (1 + 4 * place)
    values[0] = outlier * values[min(1, n - 1)]
    values[-1] = values[0] / kappa if n > 1 else values[0]
    values = -np.sort(-np.maximum(values, values[-1]))
    return values * std * math.sqrt(num_rows * num_columns) / np.linalg.norm(values)


class KnownSpectrum:
    """A matrix of `num_rows` >= `num_columns` whose singular values are `spectrum`, made by rows.

    Rows come in blocks of n = `num_columns`; the r rows that are left over are a rotation of the first r rows of the last
    block, and both weigh sqrt(1/2) there, which leaves the columns of U orthonormal.
    """

    def __init__(self, num_rows, num_columns, spectrum, generator, work_type):
        self.num_rows, self.n, self.work_type = num_rows, num_columns, work_type
        self.p, self.q = factors_of(num_columns)
        self.num_blocks, self.rest = divmod(num_rows, num_columns)
        self.weight = 1 / math.sqrt(self.num_blocks)
        order = generator.permutation(num_columns)
        self.spectrum = spectrum[order].reshape(self.p, self.q).astype(work_type)
        self.left = [[haar(size, generator) for size in (self.p, self.q)] for _ in range(self.num_blocks)]
        self.right = [haar(size, generator).astype(work_type) for size in (self.p, self.q)]
        sizes = [len(part) for part in np.array_split(np.arange(self.rest), -(-self.rest // 64) or 1)]
        self.mixing = [haar(size, generator) for size in sizes if size]

    def rows_of_u(self, block, start, stop):
        """[stop - start, n]"""
        g1, g2 = self.left[block]
        i, j = np.divmod(np.arange(start, stop), self.q)
        weights = np.full(stop - start, self.weight)
        if block == self.num_blocks - 1:
            weights[: max(0, self.rest - start)] /= math.sqrt(2)
        left = (g1[i] * weights[:, None]).astype(self.work_type)
        return (left[:, :, None] * g2[j].astype(self.work_type)[:, None, :]).reshape(stop - start, self.n)

    def times_s_v(self, u):
        rows = u.reshape(-1, self.p, self.q) * self.spectrum
        return np.matmul(np.matmul(self.right[0], rows), self.right[1]).reshape(-1, self.n)

    def __iter__(self):
        """Pieces of rows, first to last."""
        step = max(64, CHUNK // 4 // self.n // 64 * 64)
        for block in range(self.num_blocks):
            for start in range(0, self.n, step):
                yield self.times_s_v(self.rows_of_u(block, start, min(start + step, self.n)))
        start = 0
        for mix in self.mixing:
            u = self.rows_of_u(self.num_blocks - 1, start, start + len(mix))
            start += len(mix)
            yield self.times_s_v(mix.astype(self.work_type) @ u)


def work_type(dtype):
    """Of the products: what the file's rounding drowns."""
    return np.float32 if WIDTH[dtype] == 2 else np.float64


def with_spectra(tensor, generator, dtype, spectra):
    """Pieces of a tensor whose matrices have known spectra, which go to `spectra`; whole unless it is one tall matrix."""
    done = None
    for matrix in tensor.matrices:
        shape = np.broadcast_to(np.int8(0), matrix.view)[matrix.index].shape
        rows, columns = math.prod(shape[:-1]), shape[-1]
        spectra[matrix.name] = decaying_spectrum(rows, columns, tensor.std, generator)
        made = KnownSpectrum(max(rows, columns), min(rows, columns), spectra[matrix.name], generator, work_type(dtype))
        if rows >= columns and len(tensor.matrices) == 1:
            yield from (stored(piece, dtype) for piece in made)
            return
        if done is None:
            done = np.empty(tensor.shape, stored_type(dtype))
        target, place = np.empty((rows, columns), stored_type(dtype)), 0
        turned = target if rows >= columns else target.T
        for piece in made:
            turned[place : place + len(piece)] = stored(piece, dtype)
            place += len(piece)
        done.reshape(matrix.view)[matrix.index] = target.reshape(shape)
    yield done


def pieces_of(name, tensor, dtype, seed, spectra):
    """The tensor's bytes, piece by piece, made when they are asked for; `spectra`: None for noise."""
    count, generator = math.prod(tensor.shape), generator_of(seed, name)
    if tensor.matrices and spectra is not None:
        return with_spectra(tensor, generator, dtype, spectra)
    if tensor.std > 0:
        return noise(count, tensor.std, generator, dtype)
    return iter([stored(np.full(count, tensor.value), dtype)])


def shards_of(tensors, dtype, shard_bytes):
    """Lists of names: each shard is filled until the next tensor would not fit, as the hub's are."""
    shards, size = [[]], 0
    for name, tensor in tensors.items():
        more = math.prod(tensor.shape) * WIDTH[dtype]
        if shards[-1] and size + more > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size += more
    return shards


def lay_out(names, tensors, dtype):
    """The header of a shard, name -> where its bytes begin in the file, and the file's size."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name in names:
        end = offset + math.prod(tensors[name].shape) * WIDTH[dtype]
        header[name] = {"dtype": STORAGE[dtype], "shape": list(tensors[name].shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    begin = 8 + len(text)
    return struct.pack("<Q", len(text)) + text, {name: begin + header[name]["data_offsets"][0] for name in names}, begin + offset


def write_tensor(file, place, pieces):
    for piece in pieces:
        data = memoryview(np.ascontiguousarray(piece)).cast("B")
        while data:
            written = os.pwrite(file, data, place)
            data, place = data[written:], place + written


def make_checkpoint(folder, config, dtype=None, spectrum="flat", seed=0, shard_bytes=5e9, sparse=False, threads=None):
    """Writes config.json, the weights and, of a decaying spectrum, spectra.json. Returns the bytes of the tensors.

    `sparse`: headers and holes, where only headers are read. Threads take a tensor each; BLAS is best left on one thread.
    """
    folder, dtype = Path(folder), dtype or config["torch_dtype"]
    folder.mkdir(parents=True)
    tensors = tensors_of(config)
    shards = shards_of(tensors, dtype, shard_bytes)
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))] if len(shards) > 1 else ["model.safetensors"]
    spectra, total = ({} if spectrum == "decaying" else None), 0
    with contextlib.ExitStack() as files, ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        tasks = []
        for name, shard in zip(names, shards):
            header, places, size = lay_out(shard, tensors, dtype)
            file = os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o666)
            files.callback(os.close, file)
            os.truncate(file, size)
            write_tensor(file, 0, [np.frombuffer(header, np.uint8)])
            total += size - len(header)
            for tensor in [] if sparse else shard:
                tasks.append(pool.submit(write_tensor, file, places[tensor], pieces_of(tensor, tensors[tensor], dtype, seed, spectra)))
        for task in tasks:
            task.result()
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": {tensor: name for name, shard in zip(names, shards) for tensor in shard}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    if spectra is not None:
        write_spectra(folder, spectra, dtype, seed)
    (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": dtype}, indent=2) + "\n")
    return total


def write_spectra(folder, spectra, dtype, seed):
    what = f"singular values of the matrices before they were rounded to {dtype}, descending; by name and layer, W_U the unembedding"
    text = json.dumps({"what": what, "dtype": dtype, "seed": seed, "singular_values": {k: spectra[k].tolist() for k in sorted(spectra)}})
    (folder / "spectra.json").write_text(text + "\n")


def make_set(count, tokens, vocab, name="made", seed=0):
    """A prompt set of random token ids; `tokens`: of each prompt, or (least, most)."""
    generator = np.random.default_rng(seed)
    least, most = tokens if isinstance(tokens, tuple) else (tokens, tokens)
    lengths = generator.integers(least, most + 1, count)
    return {"name": name, "prompts": [{"id": str(i), "input_ids": generator.integers(0, vocab, n).tolist()} for i, n in enumerate(lengths)]}
