"""Results of spectrace sweeps in Python.

>>> results = spectrace.open_results("jobs/demo/results")
>>> results.summary                                     # pandas: a row a model and prompt set
>>> results.table("opt_anomaly")                        # pandas: any table of spectrace.tables
>>> results["gpt2-tiny"]["prompts/facts"]["trace"]      # xarray: (prompt, layer, head)
>>> results["gpt2-tiny"]["weights"]["spectral_norm"].sel(matrix="W_V")
"""

from spectrace.results import Results, ResultsError, free_energy, open_results

__all__ = ["Results", "ResultsError", "free_energy", "open_results"]
