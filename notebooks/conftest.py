"""As tests, notebooks run at the smallest preset: nbval starts their kernels in a test's setup."""

import os

import pytest

collect_ignore = ["exercises"]  # stubs that raise until a student has filled them


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINIDALLE_PRESET", os.environ.get("MINIDALLE_PRESET") or "smoke")
        return (yield)
