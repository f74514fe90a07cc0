"""Every option: what is taken, what is refused, and that the error names path, value and remedy."""

import datetime
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from channels_trunk.exceptions import ChannelLayerError, OptionsError
from channels_trunk.layers import MemoryChannelLayer, SQLiteChannelLayer
from channels_trunk.options import CORE_OPTIONS, Option, ResilienceOptions, make_capacity_of, read_options

GOOD: list[tuple[str, Any, Any]] = [
    ("prefix", "asgi", "asgi"),
    ("prefix", "a b~", "a b~"),
    ("prefix", "x" * 100, "x" * 100),
    ("expiry", 1, 1.0),
    ("expiry", 0.25, 0.25),
    ("group_expiry", 0, 0.0),
    ("group_expiry", 86400, 86400.0),
    ("capacity", 1, 1),
    ("capacity", 10**9, 10**9),
    ("enforce_capacity", False, False),
    ("channel_capacity", None, []),
    ("channel_capacity", {}, []),
    ("symmetric_encryption_keys", None, ()),
    ("symmetric_encryption_keys", [], ()),
    ("symmetric_encryption_keys", ["a", b"b"], ("a", b"b")),
    ("symmetric_encryption_keys", ("a",), ("a",)),
    ("frame_version", 1, 1),
    ("serializer_format", "json", "json"),
    ("serializer_format", "msgpack", "msgpack"),
    ("send_timeout", 0.01, 0.01),
    ("max_message_size", 1, 1),
    ("gap_event", None, None),
    ("gap_event", "chat.gap", "chat.gap"),
    ("resilience", None, None),
    ("resilience", {}, ResilienceOptions()),
    ("resilience", {"drop": 1, "delay": 2, "disconnect": 0}, ResilienceOptions(1.0, 2.0, 0.0)),
    ("inline", False, False),
    ("busy_wait", False, False),
    ("database", None, None),
    ("database", "default", "default"),
    ("path", None, None),
    ("path", "/tmp/x", "/tmp/x"),
    ("path", Path("/tmp/x"), "/tmp/x"),
    ("file_mode", 0o600, 0o600),
    ("file_mode", 0o664, 0o664),
    *[("file_mode", value, 0o660) for value in ("660", "0660", "0o660")],
    ("auto_trim", False, False),
    ("polling_interval", 0.01, 0.01),
    ("pool_size", object, object),
    ("polling_idle_timeout", -1, -1),
]

# Option, wrong value, what the error says of value and remedy.
SECONDS = "must be a number of seconds"
HUGE = 10**400
NO_VERSIONS: list[Any] = [0, 3, True, "2", None, []]
NO_DICTS: list[Any] = [[], "a*", 5]
NO_TEXTS: list[Any] = ["", 5, []]
WHOLE = "must be a whole number of at least 1"
BAD: list[tuple[str, Any, str]] = [
    *[("prefix", value, "must be a string that is not empty") for value in ("", None, 5, b"asgi", ["a"])],
    *[("prefix", value, "at most 100 printable ASCII") for value in ("x" * 101, "ä", "a\n", "\0")],
    *[
        (name, value, SECONDS)
        for name in ("expiry", "group_expiry", "send_timeout", "polling_interval")
        for value in (None, "60", True, float("nan"), float("inf"), [1], Decimal(1), datetime.timedelta(1), HUGE)
    ],
    *[(name, 0, "must be more than 0 seconds") for name in ("expiry", "send_timeout", "polling_interval")],
    ("expiry", -1, "must be more than 0 seconds, not -1"),
    ("group_expiry", -0.5, "must be more than 0 seconds, or 0 for never, not -0.5"),
    *[(name, value, WHOLE) for name in ("capacity", "max_message_size") for value in (0, -1, 1.5, "9", None, True)],
    *[
        (name, value, f"must be True or False, not {value!r}")
        for name in ("enforce_capacity", "auto_trim", "inline", "busy_wait")
        for value in (0, 1, "yes", None)
    ],
    *[("channel_capacity", value, "must be a dict of channel name pattern to capacity") for value in NO_DICTS],
    ("channel_capacity", {"a*": 0}, f"the capacity of 'a*' {WHOLE}, not 0"),
    ("channel_capacity", {"a*": "9"}, f"the capacity of 'a*' {WHOLE}, not '9'"),
    ("channel_capacity", {5: 1}, "pattern 5 is neither a glob string nor a compiled regular expression"),
    ("channel_capacity", {re.compile(b"a"): 1}, "is neither a glob string nor a compiled regular expression"),
    *[
        ("symmetric_encryption_keys", value, "must be a list of keys, even if there is only one")
        for value in ("k", b"")
    ],
    *[("symmetric_encryption_keys", value, "must be a list of strings") for value in ([""], [5], {"a"}, 5, [None])],
    *[("frame_version", value, "must be 2, or 1 for older processes") for value in NO_VERSIONS],
    *[
        ("serializer_format", value, "must be one of 'json', 'msgpack'")
        for value in ("pickle", None, 5, "", ["json"], {"json": 1})
    ],
    *[("gap_event", value, "must be a string that is not empty") for value in NO_TEXTS],
    ("gap_event", "_private", "must be a message type, which names a consumer's handler, not '_private'"),
    *[("resilience", value, "must be a dict with any of 'drop', 'delay' and 'disconnect'") for value in (True, 0.5)],
    ("resilience", {"dorp": 1}, "unknown key 'dorp'; known are 'drop', 'delay' and 'disconnect'"),
    ("resilience", {"drop": 1.5}, "'drop' must be a chance between 0 and 1, not 1.5"),
    ("resilience", {"disconnect": -0.1}, "'disconnect' must be a chance between 0 and 1, not -0.1"),
    ("resilience", {"delay": -1}, "'delay' must be seconds, 0 or more, not -1"),
    ("resilience", {"delay": "1"}, "must be a number, not '1'"),
    *[("database", value, "must be a string that is not empty") for value in ("", 5, Path("x"))],
    *[("path", value, "must be the path of a file") for value in ("", 5, b"/tmp/x", ":memory:", "file:x?mode=memory")],
    ("path", "/tmp/a\0b", "must be the path of a file"),
    *[
        ("file_mode", value, "must be the mode of a file that its owner may read and write, such as 0o600 or 0o660")
        for value in (660, "rw", "0660 ", 0o060, 0o700, 0o620, 0o1660, True, None, 6.0)
    ],
]


def _id(value: Any) -> str:
    return repr(value)[:30].replace("\\", "")


@pytest.mark.parametrize(("name", "value", "expected"), GOOD, ids=_id)
def test_a_good_value_is_taken(name: str, value: Any, expected: Any) -> None:
    values = read_options({name: value}, SQLiteChannelLayer.options, "CONFIG")

    assert values[name] == expected
    assert type(values[name]) is type(expected)


@pytest.mark.parametrize(("name", "value", "text"), BAD, ids=_id)
def test_a_bad_value_is_refused_with_path_value_and_remedy(name: str, value: Any, text: str) -> None:
    with pytest.raises(OptionsError) as caught:
        read_options({name: value}, SQLiteChannelLayer.options, "CHANNEL_LAYERS['x']['CONFIG']")

    said = str(caught.value)
    assert said.startswith(f"CHANNEL_LAYERS['x']['CONFIG'][{name!r}]: ")
    assert text in said
    assert len(said) < 400


def test_every_option_is_in_both_tables() -> None:
    names = {option.name for option in SQLiteChannelLayer.options}
    inert = {option.name for option in SQLiteChannelLayer.options if option.inert}

    assert {name for name, *_ in GOOD} == names
    assert {name for name, *_ in BAD} == names - inert


def test_defaults_are_those_that_are_documented() -> None:
    assert read_options({}, SQLiteChannelLayer.options, "CONFIG") == {
        "prefix": "asgi",
        "expiry": 60.0,
        "group_expiry": 86400.0,
        "capacity": 100,
        "channel_capacity": (),
        "enforce_capacity": True,
        "symmetric_encryption_keys": (),
        "frame_version": 2,
        "serializer_format": "msgpack",
        "send_timeout": 5.0,
        "max_message_size": 2 * 1024 * 1024,
        "gap_event": None,
        "resilience": None,
        "inline": True,
        "busy_wait": True,
        "database": None,
        "path": None,
        "file_mode": "0600",
        "auto_trim": True,
        "polling_interval": 0.1,
        "pool_size": None,
        "polling_idle_timeout": None,
    }


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("capactiy", "capacity"),
        ("chanel_capacity", "channel_capacity"),
        ("Prefix", "prefix"),
        ("symetric_encryption_keys", "symmetric_encryption_keys"),
        ("groupexpiry", "group_expiry"),
        ("poling_interval", "polling_interval"),
        ("databse", "database"),
    ],
)
def test_a_misspelt_option_is_answered_with_the_one_that_was_meant(wrong: str, meant: str) -> None:
    with pytest.raises(OptionsError, match=f"unknown option '{wrong}'; did you mean '{meant}'\\?"):
        SQLiteChannelLayer(**{wrong: 1})


def test_an_unknown_option_without_a_likeness_is_answered_with_those_that_are_known() -> None:
    with pytest.raises(
        OptionsError, match="unknown option 'wings'; known options: auto_trim, busy_wait, capacity, channel_cap"
    ):
        SQLiteChannelLayer(wings=2)


@pytest.mark.parametrize("option", ["hosts", "random_prefix_length", "on_disconnect", "on_reconnect"])
def test_an_option_of_redis_is_answered_with_what_to_do(option: str) -> None:
    with pytest.raises(
        OptionsError,
        match=f"unknown option '{option}'; it is an option of channels_redis and means nothing here: remove",
    ):
        SQLiteChannelLayer(**{option: [("localhost", 6379)]})


def test_options_of_sqlite_are_unknown_to_memory() -> None:
    with pytest.raises(OptionsError, match="unknown option 'path'"):
        MemoryChannelLayer(path="/tmp/x")


def test_the_error_names_the_alias_that_settings_have_for_the_config() -> None:
    layers = {
        "default": {"BACKEND": "channels_trunk.layers.MemoryChannelLayer"},
        "jobs": {"BACKEND": "channels_trunk.layers.MemoryChannelLayer", "CONFIG": {"capactiy": 5}},
    }
    with (
        override_settings(CHANNEL_LAYERS=layers),
        pytest.raises(OptionsError, match=r"^CHANNEL_LAYERS\['jobs'\]\['CONFIG'\]: unknown option 'capactiy'"),
    ):
        MemoryChannelLayer(capactiy=5)


def test_without_settings_of_its_own_the_error_names_config() -> None:
    with pytest.raises(OptionsError, match=r"^CONFIG\['capacity'\]: "):
        MemoryChannelLayer(capacity=0)


def test_an_options_error_is_a_value_error_and_a_layer_error() -> None:
    with pytest.raises(OptionsError) as caught:
        MemoryChannelLayer(capacity=0)

    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, ChannelLayerError)
    assert caught.value.__suppress_context__  # the traceback begins where the user's mistake is


@pytest.mark.parametrize("keys", ["opensesame", b"opensesame", ["opensesame", 5], {"opensesame": 1}])
def test_no_key_is_shown(keys: Any) -> None:
    with pytest.raises(OptionsError) as caught:
        MemoryChannelLayer(symmetric_encryption_keys=keys)

    assert "opensesame" not in str(caught.value)
    assert "opensesame" not in repr(caught.value.__cause__)


def test_the_first_pattern_that_matches_gives_the_capacity() -> None:
    layer = MemoryChannelLayer(
        capacity=7, channel_capacity={"chat.*!*": 1, re.compile(r"chat\."): 2, "[ab]?": 3, "exact": 4}
    )

    asked = ["chat.x!y", "chat.x", "a1", "ab9", "exact", "exactly", "xchat."]
    assert [layer.get_capacity(channel) for channel in asked] == [1, 2, 3, 7, 4, 7, 7]


def test_capacity_that_is_not_enforced_has_no_end() -> None:
    capacity_of = make_capacity_of(1, [], enforce=False)

    assert capacity_of("anything") > 10**15


def test_the_given_config_is_not_changed() -> None:
    config: dict[str, Any] = {"channel_capacity": {"a*": 1}, "symmetric_encryption_keys": ["k"], "resilience": {}}
    before = repr(config)

    layer = MemoryChannelLayer(**config)
    config["channel_capacity"]["a*"] = 99

    assert layer.get_capacity("abc") == 1
    assert repr(config).replace("99", "1") == before


_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.binary(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.one_of(st.integers(), st.floats(), st.text(max_size=3)), max_size=3),
)


@given(option=st.sampled_from(SQLiteChannelLayer.options), value=_VALUES)
def test_any_value_is_taken_or_refused_with_an_options_error(option: Option, value: Any) -> None:
    try:
        values = read_options({option.name: value}, SQLiteChannelLayer.options, "CONFIG")
    except OptionsError as error:
        assert str(error).startswith(f"CONFIG[{option.name!r}]: ")  # noqa: PT017 - either outcome is right
    else:
        assert option.name in values


def test_core_options_are_in_every_layer() -> None:
    assert SQLiteChannelLayer.options[: len(CORE_OPTIONS)] == MemoryChannelLayer.options == CORE_OPTIONS
