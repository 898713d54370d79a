"""No example of Hypothesis is timed; and what the codec has learned in one test hides no faults from the next.

That is for `make mutation`, under which each test begins anew.
"""

import os

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

if "MUTANT_UNDER_TEST" in os.environ:

    @pytest.fixture(autouse=True)
    def _nothing_learned():
        fault = os.environ["MUTANT_UNDER_TEST"]
        if fault.startswith("durable.") and not fault.startswith("durable._codec."):
            return  # it takes longer than most tests
        import durable
        from durable._codec import conversion, leaves
        from durable._codec.hooks import user_hooks

        conversion.converter = conversion._make_converter()
        vars(durable).pop("converter", None)
        leaves._known.clear()
        for forget in user_hooks._listeners:
            forget()
