"""Property tests: the same examples on every run of CI, new ones on every run elsewhere.

No deadlines: how long an example takes says more of what else the machine does.
"""

import os

from hypothesis import settings

settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")
