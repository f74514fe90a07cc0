"""Each rule fails on a layer that breaks it: on one of the controls, or on one of the saboteurs here."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.conformance import Suite, rule_names
from channels_trunk.testing.rig import Rig
from tests.conformance import saboteur, test_controls

ON_MEMORY = {
    "test_accepted_messages_of_rivals_are_delivered": "Losing",
    "test_adding_another_nodes_channel": "OwnOnly",
    "test_another_nodes_channel_leaves_its_groups": "Immortal",
    "test_async_to_sync_everywhere": "Mute",
    "test_async_to_sync_within_a_loops_thread": "Mute",
    "test_blocking_and_asynchronous_calls_mix": "SyncMute",
    "test_blocking_calls_refuse_to_hold_up_a_loop": "SyncHanging",
    "test_blocking_sender_keeps_its_order": "SyncSwapping",
    "test_call_opens_nothing": "SyncOpening",
    "test_cancel_storm_of_several_tasks": "Losing",
    "test_cancel_storm_on_a_normal_channel": "Greedy",
    "test_cancel_storm_on_one_channel": "Greedy",
    "test_cancel_storm_on_several_channels": "Greedy",
    "test_cancel_storm_over_several_loops": "Greedy",
    "test_cancelled_in_the_turn_of_delivery": "Greedy",
    "test_cancelled_senders_do_no_harm": "Wedging",
    "test_cancelled_waiter_hands_its_signal_on": "Greedy",
    "test_change_after_send_is_not_seen": "Late",
    "test_channel_capacity_by_pattern": "Uniform",
    "test_channel_in_several_groups": "OneGroup",
    "test_channel_of_a_node_that_is_gone": "Suspicious",
    "test_channel_that_is_read_stays_in_its_groups": "Hasty",
    "test_channel_with_an_expired_message_leaves_its_groups": "Loyal",
    "test_channels_of_one_node_are_kept_apart": "Jumbling",
    "test_close_frees_everything": "Clinging",
    "test_close_of_an_unused_layer": "Fragile",
    "test_close_of_one_node_leaves_the_others_alone": "Purging",
    "test_close_sends_what_is_pending": "Buffering",
    "test_closed_layer_can_be_used_again": "Exhausted",
    "test_constructor_needs_no_loop_and_does_no_io": "Eager",
    "test_destructor_may_send": "SyncDropping",
    "test_discard_of_no_member_does_nothing": "Picky",
    "test_discarded_channel_gets_nothing_more": "Sticky",
    "test_discarded_normal_channel_gets_nothing_more": "Sticky",
    "test_discarding_another_nodes_channel": "Sticky",
    "test_disconnects_and_delays_lose_nothing": "Losing",
    "test_drained_channel_of_another_node_takes_messages_again": "Sulking",
    "test_drained_channel_takes_messages_again": "Sulking",
    "test_drop_loses_messages": "Sturdy",
    "test_dropped_layer_frees_everything": "Clinging",
    "test_each_job_goes_to_one_worker": "Doubling",
    "test_each_member_gets_the_message_once": "Doubling",
    "test_errors_are_those_of_the_namesakes": "SyncMute",
    "test_expired_message_is_neither_counted_nor_delivered": "Immortal",
    "test_expiry_is_counted": "Counterless",
    "test_flush_empties_every_node": "Unflushed",
    "test_flush_makes_room": "Unflushed",
    "test_full_channel_of_another_node_raises_channel_full": "Bottomless",
    "test_full_channel_raises_channel_full": "Bottomless",
    "test_full_member_elsewhere_hinders_nobody": "Shouting",
    "test_group_add_renews_the_membership": "Stubborn",
    "test_group_add_twice_is_one_membership": "Doubling",
    "test_group_over_several_loops": "Mute",
    "test_group_send_never_raises_channel_full": "Shouting",
    "test_group_without_members_takes_messages": "Keeping",
    "test_groups_are_kept_apart": "Shortening",
    "test_groups_order": "Losing",
    "test_health_of_a_layer_at_work": "Gloomy",
    "test_job_waits_for_a_worker_that_comes_later": "Losing",
    "test_json_message_arrives_as_it_was_sent": "Twisting",
    "test_layer_names_the_flush_extension": "Nameless",
    "test_layer_works_after_flush": "Deafening",
    "test_log_handler_may_send": "SyncMute",
    "test_longest_names_work": "Short",
    "test_loops_that_end_while_others_go_on": "Losing",
    "test_many_members": "Losing",
    "test_many_threads_at_once": "SyncSwapping",
    "test_membership_ends_after_group_expiry": "Immortal",
    "test_membership_holds_when_group_add_returns": "Lazy",
    "test_message_arrives_as_it_was_sent": "Twisting",
    "test_message_arrives_elsewhere_as_it_was_sent": "Twisting",
    "test_message_lives_until_it_expires": "Ephemeral",
    "test_message_to_another_node_expires": "Immortal",
    "test_message_too_large_is_refused": "Gullible",
    "test_messages_of_a_node_that_ended_are_delivered": "Purging",
    "test_methods_take_what_their_namesakes_take": "SyncSkewed",
    "test_neighbours_joining_and_leaving": "Losing",
    "test_nodes_never_make_the_same_name": "SameNames",
    "test_normal_channel_as_member": "Doubling",
    "test_normal_channel_with_an_expired_message_stays_in_its_groups": "Forgetful",
    "test_normal_channel_between_nodes": "Swapping",
    "test_normal_channel_is_full_for_every_node": "Bottomless",
    "test_one_megabyte_of_json_arrives": "Twisting",
    "test_one_message_goes_to_one_of_several_waiting": "Doubling",
    "test_order_of_concurrent_tasks": "Losing",
    "test_order_of_send_and_group_send": "Swapping",
    "test_order_of_sends_in_one_turn": "Sorting",
    "test_order_of_several_senders": "Swapping",
    "test_order_within_one_node": "Swapping",
    "test_overflow_is_counted": "Counterless",
    "test_prefixes_are_kept_apart": "Mixing",
    "test_quiet_channel_beside_a_busy_one": "Mute",
    "test_receive_raises_timeout_error": "SyncReturning",
    "test_receivers_in_several_loops_at_once": "Losing",
    "test_senders_message_is_left_alone": "Touching",
    "test_signal_handler_may_send": "SyncDropping",
    "test_signal_handler_that_would_wait_is_refused": "SyncObliging",
    "test_snapshot_stands_still": "Living",
    "test_specific_channel_between_nodes": "Losing",
    "test_storm_beside_a_steady_neighbour": "Greedy",
    "test_thousand_idle_receivers_need_no_thread_each": "Threaded",
    "test_threads_and_tasks_share_a_channel": "Losing",
    "test_threads_with_loops_of_their_own": "Losing",
    "test_timeouts_lose_nothing": "Losing",
    "test_traffic_is_counted": "Counterless",
    "test_waiting_receiver_is_woken": "Mute",
    "test_waiting_receiver_outlives_close": "Mute",
    "test_whole_api_in_a_plain_thread": "SyncMute",
    "test_worker_cancelled_while_waiting_loses_nothing": "Greedy",
    "test_workers_beside_other_channels": "Mute",
}
ON_SQLITE = {
    "test_fork_while_threads_wait": "SyncMute",
    "test_grandchildren": "Mute",
    "test_calls_about_a_killed_nodes_channel_return": "Suspicious",
    "test_fork_before_the_first_use": "Mute",
    "test_fork_in_the_middle_of_sending": "Doubling",
    "test_keys_can_be_changed_while_running": "FirstKey",
    "test_killed_child_does_not_hinder_the_parent": "Mute",
    "test_killed_member_hinders_nobody": "Losing",
    "test_killed_node_is_soon_no_peer": "Nostalgic",
    "test_killed_senders_leave_no_gap": "Doubling",
    "test_killed_worker_takes_no_job_along": "Losing",
    "test_nodes_with_the_same_key": "Salted",
    "test_parent_keeps_what_is_its_own": "Purging",
    "test_pool_of_forked_workers": "Doubling",
    "test_process_that_stands_still_hinders_nobody": "Losing",
    "test_undecryptable_messages_are_counted": "Counterless",
    "test_unreadable_frame_takes_nothing_along": "Counterless",
}
ARGUMENTS = {"test_message_arrives_as_it_was_sent": {"sample": "text"}}
CONTROLS = (
    test_controls.TestInMemoryChannelLayer,
    test_controls.TestRedisChannelLayer,
    test_controls.TestRedisPubSubChannelLayer,
)


@pytest.fixture(autouse=True)
def _let_go() -> Iterator[None]:
    yield
    for thing in saboteur.held:
        if hasattr(thing, "close") and not asyncio.iscoroutinefunction(thing.close):
            thing.close()
    saboteur.held.clear()


misbehaving = pytest.mark.leaks_allowed("saboteurs do as they like")


def fails(name: str, under_test: LayerUnderTest, *, peers_are: str) -> None:
    """Fail if the rule does not."""
    rig = Rig(under_test, features=Features(), seed="saboteur", peers_are=peers_are)
    arguments: dict[str, Any] = ARGUMENTS.get(name, {})
    with pytest.raises((Exception, pytest.fail.Exception)) as caught:
        getattr(Suite(), name)(rig=rig, **arguments)
    assert not isinstance(caught.value, AttributeError), "the saboteur itself is broken"
    print(repr(caught.value))


@misbehaving
@pytest.mark.parametrize(("name", "saboteur"), ON_MEMORY.items())
def test_rule_fails(name: str, saboteur: str) -> None:
    fails(
        name,
        LayerUnderTest(
            backend=f"tests.conformance.saboteurs.Memory{saboteur}",
            config={"prefix": uuid.uuid4().hex},
            shortest_expiry=0.1,
            shortest_group_expiry=0.3,
            scale=0.05,
            patience=0.03,
        ),
        peers_are="thread",
    )


@misbehaving
@pytest.mark.parametrize(("name", "saboteur"), ON_SQLITE.items())
def test_rule_about_processes_fails(name: str, saboteur: str, tmp_path: Path) -> None:
    fails(
        name,
        LayerUnderTest(
            backend=f"tests.conformance.saboteurs.SQLite{saboteur}",
            config={"path": str(tmp_path / "channels.sqlite3")},
            scale=0.05,
            patience=0.1,
        ),
        peers_are="process",
    )


def test_every_rule_is_seen_to_fail() -> None:
    on_controls = {name.partition("[")[0] for control in CONTROLS for name in control.expected_failures}
    assert set(rule_names()) == on_controls | ON_MEMORY.keys() | ON_SQLITE.keys()
