"""Results of spectrace sweeps in Python.

>>> results = spectrace.open_results("jobs/demo/results")
>>> results.summary                                     # pandas: a row a model and prompt set
>>> results.table("opt_anomaly")                        # pandas: any table of spectrace.tables
>>> spectrace.tables.describe("opt_anomaly")            # what its columns mean
>>> results["gpt2-tiny"]["prompts/facts"]["trace"]      # xarray: (prompt, layer, head)
>>> results["gpt2-tiny"]["weights"]["spectral_norm"].sel(matrix="W_V")

What the documents name is there after `import spectrace`. The modules of the commands (compare, export, report) and of what they
draw (studies, overview) are imported by name: Plotly and Matplotlib take longer than all the rest.
"""

from spectrace import error_bounds, heavy_tails, inference, lstar_formula, published, tables
from spectrace.opening import open_results
from spectrace.results import Results, ResultsError, free_energy

__all__ = ["Results", "ResultsError", "error_bounds", "free_energy", "heavy_tails", "inference", "lstar_formula", "open_results",
           "published", "tables"]
