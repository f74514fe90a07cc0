"""Names of channels, groups and nodes."""

from typing import Any

import pytest
from channels.layers import BaseChannelLayer
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.names import (
    MAX_NAME_LENGTH,
    channel_owner,
    check_channel,
    check_group,
    is_node_id,
    local_names,
    new_node_id,
    printable,
)

NODE = "tkabcdefghij234567"
NEITHER: list[Any] = [
    "",
    " ",
    "a b",
    "ä",
    "a/b",
    "a:b",
    "a*",
    "a\n",
    "\na",
    "a\0",
    "٣",
    None,
    5,
    b"a",
    ["a"],
    "x" * 100,
]
NO_CHANNEL = ["!", "!a", "a!b!c", "a!!", f"x.{NODE}!a\n", "a!ä", "a!b c"]


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "-", ".", "_", "x" * 99, "a!", "a!b", "specific.x!y", f"s.{NODE}!1"])
def test_channels_that_the_specification_allows(name: str) -> None:
    check_channel(name)


@pytest.mark.parametrize("name", [*NEITHER, *NO_CHANNEL])
def test_channels_that_it_forbids(name: Any) -> None:
    with pytest.raises(TypeError, match=r"^Channel name must be a valid unicode string with length < 100 containing"):
        check_channel(name)


@pytest.mark.parametrize("name", ["a", "A-b_c.9", "-", ".", "_", "x" * 99])
def test_groups_that_the_specification_allows(name: str) -> None:
    check_group(name)


@pytest.mark.parametrize("name", [*NEITHER, "a!", "a!b", "!"])
def test_groups_that_it_forbids(name: Any) -> None:
    with pytest.raises(TypeError, match=r"^Group name must be a valid unicode string with length < 100 containing"):
        check_group(name)


def test_the_error_shows_the_name_but_not_all_of_a_long_one() -> None:
    with pytest.raises(TypeError, match=r"not 'a b'\.$"):
        check_channel("a b")
    with pytest.raises(TypeError) as caught:
        check_group("x" * 100_000)

    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("name", "owner"),
    [
        (f"specific.{NODE}!1", NODE),
        (f"a.b.c.{NODE}!1", NODE),
        (f"{NODE}!1", NODE),
        (f"specific.{NODE}!", NODE),
        (f"specific.{NODE}", None),  # without the mark nobody owns it
        ("specific.other!1", None),
        (f"specific.{NODE}x!1", None),
        (f"specific.{NODE[:-1]}!1", None),
        (f"specific.{NODE.upper()}!1", None),
        (f"specific.x{NODE}!1", None),
    ],
)
def test_who_owns_a_channel(name: str, owner: str | None) -> None:
    assert channel_owner(name) == owner


def test_node_ids_are_distinct_and_make_valid_names() -> None:
    ids = {new_node_id() for _ in range(1_000)}

    assert len(ids) == 1_000
    assert all(channel_owner(f"specific.{node}!1") == node for node in ids)


def test_local_names_are_distinct_and_short() -> None:
    names = local_names()
    first = [next(names) for _ in range(5_000)]

    assert len(set(first)) == 5_000
    assert max(map(len, first)) <= 4


@given(st.text(max_size=MAX_NAME_LENGTH + 5))
def test_a_group_name_is_allowed_where_channels_own_rule_allows_it(name: str) -> None:
    # Channels itself takes a trailing newline, as its pattern ends with "$", and digits of any script.
    theirs = BaseChannelLayer()
    try:
        theirs.require_valid_group_name(name)
        allowed = name.isascii() and not name.endswith("\n")
    except TypeError:
        allowed = False
    if allowed:
        check_group(name)
    else:
        with pytest.raises(TypeError):
            check_group(name)


@given(
    st.text(max_size=40) | st.text(st.sampled_from("a\x00\x1b\r\n\x7f\x9b\u202e\u2028\ud800\U000e0001 "), max_size=20)
)
def test_what_is_shown_is_one_line_that_does_nothing(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert (shown == text) is text.isprintable()
    shown.encode()  # no half of a pair is left that no terminal takes


def test_what_is_shown_is_escaped_as_in_python() -> None:
    assert printable("jobs é\x1b[2J\n\u202e") == r"jobs é\x1b[2J\n\u202e"


@pytest.mark.parametrize("name", [None, 5, b"tkaaaaaaaaaaaaaaaa", "tk\n", "", "other"])
def test_what_is_no_node_id(name: object) -> None:
    assert not is_node_id(name)
