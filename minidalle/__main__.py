"""`python -m minidalle`, which torchrun starts once per process."""

import sys

from minidalle.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
