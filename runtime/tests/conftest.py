import os

from hypothesis import HealthCheck, settings

# The interpreters are to be compared, not to be heard.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

settings.register_profile(
    "runtime",
    deadline=None,  # the machine may be busy
    derandomize=True,  # the same models in every run; `-m slow` draws new ones
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("runtime")
