"""Opens a results folder: one xarray DataTree a model, and a table over all of them."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping

import h5py
import numpy as np
import pandas as pd
import xarray as xr

CONVENTIONS = "spectrace-2"
ATTRIBUTES_IN_SUMMARY = ("lab", "expected", "status", "architecture", "num_layers", "num_heads", "num_kv_heads",
                         "head_dim", "hidden_size", "vocab_size", "num_parameters", "slicing")
SCALARS_IN_SUMMARY = ("l_star_trace", "l_star_entropy", "l_star_sign_change", "last_gain_mean",
                      "last_gain_after_norm_mean", "effective_amplification")


class ResultsError(Exception):
    """A folder or file that is not there, or holds no results."""


class Results(Mapping):
    """The models of a results folder by name, in the order of the job; each an xarray DataTree, read when it is used.

    A model's tree has the groups "weights", "heads", "unembedding", "prompts/<set>" and "prompts/<set>/statistics", as far
    as the job asked for them. The tree's own attributes say what the model is.
    """

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        self._trees: dict[str, xr.DataTree] = {}
        for file in _result_files(self.path):
            tree = _open_tree(file)
            if tree.attrs.get("Conventions") != CONVENTIONS or "model" not in tree.attrs:
                tree.close()
                continue  # summary.h5, or a file of another program
            name = tree.attrs["model"]
            if name in self._trees:
                raise ResultsError(f"{file}: model '{name}' is in {self._trees[name].encoding.get('source', 'another file')} "
                                   "too (a file was copied or renamed?). Keep one of them in the folder")
            self._trees[name] = tree
        if not self._trees:
            raise ResultsError(f"{self.path}: no results (no .h5 file with Conventions \"{CONVENTIONS}\"). "
                               "Has `spectrace run` finished a model there?")
        order = {name: number for number, name in enumerate(_order_of_models(self.path))}
        self._trees = dict(sorted(self._trees.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))

    def __getitem__(self, model: str) -> xr.DataTree:
        return self._trees[model]

    def __iter__(self) -> Iterator[str]:
        return iter(self._trees)

    def __len__(self) -> int:
        return len(self._trees)

    def __repr__(self) -> str:
        return f"<spectrace.Results {str(self.path)!r}: {', '.join(self._trees)}>"

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files; what was not read before can then no longer be read."""
        for tree in self._trees.values():
            tree.close()

    def prompt_sets(self, model: str | None = None) -> list[str]:
        """Names of the prompt sets of a model, or of all models in the order they first appear."""
        names: dict[str, None] = {}
        for tree in [self[model]] if model else self.values():
            if "prompts" in tree.children:
                names.update(dict.fromkeys(tree["prompts"].children))
        return list(names)

    @property
    def errors(self) -> pd.DataFrame:
        """What went wrong: a row a model that failed, or a prompt of it. Empty if nothing did."""
        rows = []
        for model, tree in self.items():
            if tree.attrs.get("error"):
                rows.append({"model": model, "prompt_set": "", "prompt": "", "error": tree.attrs["error"]})
            for name in self.prompt_sets(model):
                prompts = tree["prompts"][name]
                if "prompt_error" not in prompts:
                    continue
                for prompt, error in zip(prompts["prompt_id"].values, prompts["prompt_error"].values):
                    if error:
                        rows.append({"model": model, "prompt_set": name, "prompt": str(prompt), "error": str(error)})
        return pd.DataFrame(rows, columns=["model", "prompt_set", "prompt", "error"])

    @property
    def summary(self) -> pd.DataFrame:
        """A row a model and prompt set (a row a model where there are no prompts): what the model is, the mean of
        trace_multihead over prompts and layers, transition points, gains, and mean spectral norms over the layers."""
        rows = []
        for model, tree in self.items():
            of_model = {"model": model} | {name: tree.attrs.get(name) for name in ATTRIBUTES_IN_SUMMARY}
            of_model |= _weight_columns(tree)
            names = self.prompt_sets(model)
            rows += [of_model | {"prompt_set": name} | _prompt_columns(tree["prompts"][name]) for name in names]
            if not names:
                rows.append(of_model | {"prompt_set": ""})
        table = pd.DataFrame(rows)
        front = ["model", "prompt_set"]
        return table[front + [column for column in table if column not in front]]


def open_results(path: str | pathlib.Path) -> Results:
    """Opens a results folder, or a single <model>.h5.

    Raises ResultsError if there is nothing to read.
    """
    return Results(path)


def _result_files(path: pathlib.Path) -> list[pathlib.Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ResultsError(f"{path}: no such file or folder")
    return sorted(file for file in path.glob("*.h5") if not file.name.startswith("."))


def _open_tree(file: pathlib.Path) -> xr.DataTree:
    try:
        return xr.open_datatree(file, engine="h5netcdf")
    except OSError:
        pass  # perhaps the file system refuses locks; a results file is complete once it has its name, so it needs none
    try:
        # Only then: HDF5 refuses a file that is open elsewhere in the process with the other setting.
        return xr.open_datatree(file, engine="h5netcdf", driver_kwds={"locking": False})
    except OSError as problem:
        raise ResultsError(f"{file}: cannot be read ({problem}). Is it an HDF5 file, and whole?") from problem


def free_energy(prompts: xr.DataTree | xr.Dataset) -> xr.DataArray:
    """-log_partition / beta of a group "prompts/<set>": (prompt, layer, head, beta). The file holds its statistics only."""
    array = -prompts["log_partition"] / prompts["beta"]
    array.attrs = {"units": "1", "long_name": "Minus log_partition over beta"}
    return array.rename("free_energy")


def _order_of_models(path: pathlib.Path) -> list[str]:
    """As the job has them: from the sweep's summary.h5, else from what a run noted beside a results file."""
    folder = path if path.is_dir() else path.parent
    try:
        with h5py.File(folder / "summary.h5") as file:
            return list(dict.fromkeys(file["summary/model"].asstr()[:]))
    except (OSError, KeyError):
        pass
    for note in sorted(folder.glob("*.run.json")):
        try:
            return [model["name"] for model in json.loads(note.read_text())["job"]["models"]]
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return []


def _weight_columns(tree: xr.DataTree) -> dict[str, float]:
    columns = {}
    if "weights" in tree.children:
        norms = tree["weights"]["spectral_norm"].mean("layer", skipna=False)
        for matrix in norms["matrix"].values:
            columns[f"{matrix}_spectral_norm_mean"] = float(norms.sel(matrix=matrix))
    if "unembedding" in tree.children:
        columns["W_U_spectral_norm"] = float(tree["unembedding"]["spectral_norm"])
    return columns


def _prompt_columns(prompts: xr.DataTree) -> dict[str, float]:
    columns = {"num_prompts": int(prompts.sizes["prompt"])}
    if "prompt_error" in prompts:
        columns["num_prompts_failed"] = int(np.count_nonzero(prompts["prompt_error"].values != ""))
    if "statistics" in prompts.children:
        statistics = prompts["statistics"]
        if "trace_multihead" in statistics:
            means = statistics["trace_multihead"].sel(statistic="mean")
            columns["trace_multihead_mean"] = float(means.mean("layer", skipna=False))
        columns |= {name: float(statistics[name]) for name in SCALARS_IN_SUMMARY if name in statistics}
    return columns
