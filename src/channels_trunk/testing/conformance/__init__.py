"""The conformance suite: one test per rule, for any channel layer. See Suite."""

import pytest

# Before they are imported: pytest shows what an assertion compared only in modules that it has rewritten.
pytest.register_assert_rewrite(
    *(
        f"channels_trunk.testing.conformance.{name}"
        for name in (
            "blocking",
            "cancellation",
            "capacity",
            "checks",
            "delivery",
            "expiry",
            "extras",
            "groups",
            "lifecycle",
            "loops",
            "messages",
            "names",
            "processes",
        )
    )
)

from channels_trunk.testing.conformance.suite import Suite, rule_names  # noqa: E402

__all__ = ["Suite", "rule_names"]
