"""What all tests share: how hypothesis draws its examples."""

import os

from hypothesis import settings

# No deadline: a busy machine is not a defect. The same examples on every CI run; elsewhere they are drawn anew.
settings.register_profile("unet-em", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("unet-em")
