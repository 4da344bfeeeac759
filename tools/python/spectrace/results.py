"""Opens a results folder: what is in it is listed at once, the numbers are read when they are used."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import h5py
import numpy as np
import pandas as pd
import xarray as xr

CONVENTIONS = "spectrace-2"
_UNREADABLE = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError)  # what h5py and h5netcdf raise on damaged files
_PUT_BACK = "Put the file back, or compute the model again"


class ResultsError(Exception):
    """A folder or file that is not there, or holds no results."""


@dataclass
class _ModelFile:
    """What is known of a <model>.h5 without reading its numbers."""

    path: pathlib.Path
    attributes: dict
    groups: list[str]
    opened: dict[str, xr.Dataset] = field(default_factory=dict)
    tree: xr.DataTree | None = None


MakeTable = Callable[["Results", str, str | None], pd.DataFrame]  # of results, a table's name and a prompt set (None: all)


class Results(Mapping):
    """The models of a results folder by name, in the order of the job; each an xarray DataTree, opened when it is used.

    A model's tree has groups of weights ("weights", "heads", …: declarations.weight_groups()), "prompts/<set>" and
    "prompts/<set>/statistics", as far as the job asked for them. To open one group is ten times as quick as to open the tree: group(), statistics().
    A sweep need not be finished: `problems` names the files that can't be read, `missing` the models that have none yet.
    """

    def __init__(self, path: str | pathlib.Path, make_table: MakeTable):
        """make_table: what table() asks. Tables are made of results, so results are told how to have them (spectrace.opening)."""
        self.path = pathlib.Path(path)
        self._make_table = make_table
        self._models: dict[str, _ModelFile] = {}
        self._problems: list[tuple[str, str]] = []
        self._noted: dict[tuple[str, str], dict[str, float]] | None = None  # of summary.h5, when it is asked for
        for file in _result_files(self.path):
            self._add(file)
        if not self._models:
            raise ResultsError(self._nothing_to_read())
        self.job = _job_of(self.folder)
        order = {name: number for number, name in enumerate(self._order_of_models())}
        self._models = dict(sorted(self._models.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))

    def __getitem__(self, model: str) -> xr.DataTree:
        file = self._models[model]
        if file.tree is None:
            file.tree = _open(xr.open_datatree, file.path)
        return file.tree

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def __contains__(self, model: object) -> bool:
        return model in self._models

    def __repr__(self) -> str:
        return f"<spectrace.Results {str(self.path)!r}: {', '.join(self._models)}>"

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_exception) -> None:
        self.close()

    def close(self) -> None:
        """Closes the files; what was not read before can then no longer be read."""
        for file in self._models.values():
            for opened in [*file.opened.values(), *([file.tree] if file.tree is not None else [])]:
                opened.close()
            file.opened.clear()
            file.tree = None

    @property
    def folder(self) -> pathlib.Path:
        """The folder that the results lie in."""
        return self.path if self.path.is_dir() else self.path.parent

    def file(self, model: str) -> pathlib.Path:
        """The model's results file."""
        return self._models[model].path

    def attributes(self, model: str) -> dict:
        """Attributes of the model's file: what the model is, and how it went (docs/file-format.md). Opens nothing."""
        return self._models[model].attributes

    def meta(self, model: str) -> dict:
        """The job's free description of the model ("meta"); empty if it has none."""
        try:
            meta = json.loads(self.attributes(model).get("meta") or "{}")
        except ValueError:
            return {}
        return meta if isinstance(meta, dict) else {}

    def groups(self, model: str) -> list[str]:
        """Paths of the groups of the model's file: "weights", "prompts/<set>/statistics", …"""
        return self._models[model].groups

    def group(self, model: str, path: str) -> xr.Dataset | None:
        """One group of a model's file, its values read as they are used; None if the file has no such group.

        Raises ResultsError if the file can't be read any more.
        """
        file = self._models[model]
        if path not in file.groups:
            return None
        if path not in file.opened:
            file.opened[path] = _open(xr.open_dataset, file.path, group=path)
        return file.opened[path]

    def statistics(self, model: str, prompt_set: str) -> xr.Dataset | None:
        """Statistics of a model over a prompt set, as a dataset; None where it has none."""
        return self.group(model, f"prompts/{prompt_set}/statistics")

    def prompt_sets(self, model: str | None = None) -> list[str]:
        """Names of the prompt sets of a model, or of all models in the order they first appear."""
        names: dict[str, None] = {}
        for name in [model] if model else self:
            names.update((path.split("/")[1], None) for path in self.groups(name) if path.count("/") == 1 and path.startswith("prompts/"))
        return list(names)

    @property
    def problems(self) -> pd.DataFrame:
        """Files of the folder that are not among the models, and why: columns file, problem. Empty if there are none."""
        return pd.DataFrame(self._problems, columns=["file", "problem"], dtype=str)

    @property
    def missing(self) -> list[str]:
        """Models of the job that have no results file: not computed yet, or never begun. Empty if the job is not known."""
        unreadable = {file for file, _ in self._problems}
        return [name for name in _models_of(self.job)
                if name not in self and f"{name}.h5" not in unreadable] if self.path.is_dir() else []

    @property
    def errors(self) -> pd.DataFrame:
        """What went wrong: a row a model that failed, or a prompt of it. Empty if nothing did."""
        rows = []
        for model in self:
            if self.attributes(model).get("error"):
                rows.append({"model": model, "prompt_set": "", "prompt": "", "error": self.attributes(model)["error"]})
            for name in self.prompt_sets(model):
                prompts = self.group(model, f"prompts/{name}")
                if "prompt_error" not in prompts:
                    continue
                errors = prompts["prompt_error"].values
                failed = np.flatnonzero(errors != "")
                ids = prompts["prompt_id"].values[failed]
                rows += [{"model": model, "prompt_set": name, "prompt": str(prompt), "error": str(error)}
                         for prompt, error in zip(ids, errors[failed])]
        return pd.DataFrame(rows, columns=["model", "prompt_set", "prompt", "error"])

    @property
    def summary(self) -> pd.DataFrame:
        """The table "summary": a row a model and prompt set, in the columns of summary.h5 and some more.

        Its columns were once named otherwise than those of summary.h5: trace_multihead_mean is mean_trace,
        num_prompts_failed is num_failed_prompts, W_V_spectral_norm_mean is w_v_spectral_norm_mean, W_U_spectral_norm is
        unembedding_spectral_norm.
        """
        return self.table("summary")

    def noted_summary(self, model: str, prompt_set: str) -> dict[str, float]:
        """Numbers of the folder's summary.h5 for a model and set ("": a model without prompts); empty if it has no such row."""
        if self._noted is None:
            self._noted = _summary_file(self.folder / "summary.h5")
        return self._noted.get((model, prompt_set), {})

    def table(self, name: str, prompt_set: str | None = None) -> pd.DataFrame:
        """A table of spectrace.tables: typed and documented columns; spectrace.tables.describe(name) says what they mean.

        prompt_set: rows of this set only. Raises ResultsError if there is no such table.
        """
        return self._make_table(self, name, prompt_set)

    @contextlib.contextmanager
    def reading(self, model: str, path: str) -> Iterator[None]:
        """Around reading values of a group: raises ResultsError, naming file and group, where they are damaged."""
        try:
            yield
        except _UNREADABLE as problem:
            raise ResultsError(f"{self.file(model)}: {path} is damaged ({_first_line(problem)}). {_PUT_BACK}") from problem

    def set_aside_damaged(self) -> None:
        """Reads what tables are made of; a model whose file is damaged within leaves the models and becomes one of the problems.

        Raises ResultsError if no model is left.
        """
        for model in list(self):
            try:
                _read_through(self.file(model))
            except _UNREADABLE as problem:
                file = self._models.pop(model)
                self._problems.append((file.path.name, f"is damaged ({_first_line(problem)}). {_PUT_BACK}"))
        if not self._models:
            raise ResultsError(self._nothing_to_read())

    def _add(self, file: pathlib.Path) -> None:
        try:
            found = _look_into(file)
        except _UNREADABLE as problem:
            self._problems.append((file.name, f"cannot be read ({_first_line(problem)}). Is it an HDF5 file, and whole? "
                                              "Was it still being copied?"))
            return
        problem = _problem_of(file, found.attributes)
        if problem:
            self._problems.append((file.name, problem))
        if problem is not None:
            return
        name = found.attributes["model"]
        if name in self._models:
            raise ResultsError(f"{file}: model '{name}' is in {self._models[name].path} too (a file was copied or renamed?). "
                               "Keep one of them in the folder")
        self._models[name] = found

    def _nothing_to_read(self) -> str:
        found = "; ".join(f"{self.folder / file}: {problem}" for file, problem in self._problems)
        unfinished = sorted(re.sub(r"\.h5\.part\d+$", "", part.name) for part in self.folder.glob("*.h5.part*"))
        return (f"{self.path}: no results (no .h5 file with Conventions \"{CONVENTIONS}\"). "
                + (f"Found {found}. " if found else "")
                + (f"Being written: {', '.join(unfinished)}. " if unfinished else "")
                + "Has `spectrace run` finished a model there?")

    def _order_of_models(self) -> list[str]:
        """As the job has them: from the sweep's summary.h5, else from what a run noted beside a results file."""
        try:
            with h5py.File(self.folder / "summary.h5") as file:
                return list(dict.fromkeys(file["summary/model"].asstr()[:]))
        except (OSError, KeyError, TypeError, AttributeError):
            return _models_of(self.job)


def free_energy(prompts: xr.DataTree | xr.Dataset) -> xr.DataArray:
    """-log_partition / beta of a group "prompts/<set>": (prompt, layer, head, beta). The file holds its statistics only."""
    array = -prompts["log_partition"] / prompts["beta"]
    array.attrs = {"units": "1", "long_name": "Minus log_partition over beta"}
    return array.rename("free_energy")


def _result_files(path: pathlib.Path) -> list[pathlib.Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ResultsError(f"{path}: no such file or folder")
    return sorted(file for file in path.glob("*.h5") if not file.name.startswith("."))


def _look_into(file: pathlib.Path) -> _ModelFile:
    if not file.is_file():
        raise OSError("it is no file")
    with _opened(file) as handle:
        attributes = {name: _plain(value) for name, value in handle.attrs.items()}
        groups = [name for name, item in handle.items() if isinstance(item, h5py.Group)]
        if "prompts" in groups:
            groups.remove("prompts")
            for name, item in handle["prompts"].items():
                groups.append(f"prompts/{name}")
                groups += [f"prompts/{name}/{inner}" for inner, part in item.items() if isinstance(part, h5py.Group)]
    return _ModelFile(file, attributes, groups)


def _opened(file: pathlib.Path) -> h5py.File:
    try:
        return h5py.File(file, "r")
    except OSError:
        # Perhaps the file system refuses locks; a results file is complete once it has its name, so it needs none.
        return h5py.File(file, "r", locking=False)


def _read_through(file: pathlib.Path) -> None:
    """Reads all but the values of single prompts, which may be many; by h5py, which is ten times as quick as xarray."""

    def read(path: str, item: h5py.Group | h5py.Dataset) -> None:
        list(item.attrs.items())
        if not isinstance(item, h5py.Dataset):
            return
        for dimension in item.dims:
            dimension.values()  # what names its dimensions is there
        if item.ndim <= 1 or not re.fullmatch(r"prompts/[^/]+", path.rpartition("/")[0]):
            item[()]

    with _opened(file) as handle:
        handle.visititems(read)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(())[()]
    return value.item() if isinstance(value, np.generic) else value


def _problem_of(file: pathlib.Path, attributes: dict) -> str | None:
    """Why this file is not among the models: "" where that is as it should be, None if it is one."""
    conventions = str(attributes.get("Conventions", ""))
    known = int(CONVENTIONS.rpartition("-")[2])
    version = re.fullmatch(r"spectrace-(\d+)", conventions)
    if not version:
        return "" if file.name == "summary.h5" else "is not of spectrace (no Conventions attribute of it); left out"
    if int(version[1]) != known:
        newer = int(version[1]) > known
        return (f"is of {'a newer' if newer else 'an older'} format ({conventions}; this package reads {CONVENTIONS}). "
                + ("Update spectrace" if newer else "Compute it again"))
    if "model" not in attributes:
        return "" if file.name == "summary.h5" else "names no model; left out"
    return None


def _open(function, file: pathlib.Path, **options):
    try:
        return function(file, engine="h5netcdf", **options)
    except OSError:
        pass  # perhaps locks again, see _look_into
    try:
        # Only then: HDF5 refuses a file that is open elsewhere in the process with the other setting.
        return function(file, engine="h5netcdf", driver_kwds={"locking": False}, **options)
    except _UNREADABLE as problem:
        raise ResultsError(f"{file}: cannot be read ({_first_line(problem)}). Is it an HDF5 file, and whole?") from problem


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0]


def _summary_file(path: pathlib.Path) -> dict[tuple[str, str], dict[str, float]]:
    """(model, prompt set) -> {column: number}; empty if the file is not there or can't be read: all in it is in the models' files too."""
    try:
        with _opened(path) as file:
            columns = {name: dataset[:] for name, dataset in file["summary"].items() if dataset.ndim == 1}
            rows = list(zip(file["summary/model"].asstr()[:], file["summary/prompt_set"].asstr()[:]))
        numbers = {name: values for name, values in columns.items() if values.dtype.kind in "iuf" and len(values) == len(rows)}
        return {row: {name: float(values[i]) for name, values in numbers.items()} for i, row in enumerate(rows)}
    except _UNREADABLE:
        return {}


def _job_of(folder: pathlib.Path) -> dict:
    """The job as written, as a run noted it beside a results file (the newest, for a job may have grown); else empty."""
    notes = []
    for note in folder.glob("*.run.json"):
        try:
            notes.append((note.stat().st_mtime_ns, note.name, json.loads(note.read_text(encoding="utf-8"))["job"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    jobs = [job for _time, _name, job in sorted(notes, key=lambda item: item[:2]) if isinstance(job, dict)]
    return jobs[-1] if jobs else {}


def _models_of(job: dict) -> list[str]:
    models = job.get("models", [])
    return [str(model["name"]) for model in models if isinstance(model, dict) and "name" in model] if isinstance(models, list) else []
