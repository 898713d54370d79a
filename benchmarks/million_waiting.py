"""`python -m benchmarks.million_waiting FOLDER`: the row `waiting` with 1,000,000 runs, made through the public API.

Making them takes some ten minutes, so that it is no part of `python -m benchmarks`. A journal that is there is used.
"""

import sys
from pathlib import Path

from .processes import waiting
from .report import print_table

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    print_table([waiting(folder, 3, 1_000_000)])
