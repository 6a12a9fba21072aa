"""`python train.py ...` is `alps train ...`, from a checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from alps.cli.__main__ import main

if __name__ == "__main__":
    sys.argv.insert(1, "train")
    main()
