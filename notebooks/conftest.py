"""As tests, the notebooks run at the smallest preset: pytest starts their kernels with it."""

import os

os.environ.setdefault("MINIDALLE_PRESET", "smoke")
