"""What the scripts of this repository share: files of JSON, runs of egress, and a few statistics.

A script finds it by its own place: sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Scripts")).
"""

from .files import read_lines, write_json
from .program import run_egress
from .statistics import mean, percentile, standard_error

__all__ = ["mean", "percentile", "read_lines", "run_egress", "standard_error", "write_json"]
