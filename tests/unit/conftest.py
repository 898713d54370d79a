"""What the codec has learned in one test hides faults from the next: under `make mutation` each begins anew."""

import os

import pytest

if "MUTANT_UNDER_TEST" in os.environ:

    @pytest.fixture(autouse=True)
    def _nothing_learned():
        import durable
        from durable._codec import conversion, leaves
        from durable._codec.hooks import user_hooks

        conversion.converter = conversion._make_converter()
        vars(durable).pop("converter", None)
        leaves._known.clear()
        for forget in user_hooks._listeners:
            forget()
