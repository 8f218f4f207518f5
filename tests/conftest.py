"""Property tests: the same examples on every run of CI, new ones on every run elsewhere."""

import os

if os.environ.get("CI"):  # and only then: to import it takes 10 s in an emulated guest
    from hypothesis import settings

    settings.register_profile("ci", derandomize=True)
    settings.load_profile("ci")
