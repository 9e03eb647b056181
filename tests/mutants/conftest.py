"""The planted faults take minutes, so they are run only when asked for by name."""


def pytest_ignore_collect(collection_path, config):
    asked = any("mutants" in str(argument) for argument in config.args)
    return None if asked or collection_path.is_dir() else True
