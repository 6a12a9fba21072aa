"""`python train.py ...` is `alps train ...`, from a checkout."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from alps.cli.train import train

if __name__ == "__main__":
    train(sys.argv[1:])
