"""The suite on layers of others: it can fail, and it fails where they are known to.

Each expected failure names a rule that the layer breaks every time. What it breaks in a race, which it may win, is an
occasional failure; what may hang, or takes long, is left out. That each rule can fail is shown in test_rules_can_fail.
"""

import pytest

from channels_trunk.testing import Features, LayerUnderTest
from channels_trunk.testing.conformance import Suite, rule_names

NAMES = "names are matched with `$` and without re.ASCII: a trailing newline and foreign digits pass"
NO_DICT = "an AssertionError, which python -O leaves out, instead of TypeError"
SERIALIZER = "what msgpack-python refuses, and its exceptions, come through as they are, without the path"
DJANGO_TYPES = "msgpack-python takes neither lazy strings nor dates"


PUBSUB_FAILURES = {
    "test_bad_channel_name_raises_type_error": "names are not looked at",
    "test_bad_group_name_raises_type_error": "names are not looked at",
    "test_channel_name_is_ascii_to_its_end": "names are not looked at",
    "test_message_that_is_no_dict_raises_type_error": "anything that can be packed is sent",
    "test_unpackable_value_raises_type_error": SERIALIZER,
    "test_text_and_numbers_of_django_arrive_plain": DJANGO_TYPES,
    "test_dates_uuids_and_decimals_arrive": DJANGO_TYPES,
    "test_new_channels_are_unique_and_valid": "its names have no `!`",
    "test_new_channel_takes_a_prefix": "the layer's own prefix comes first",
    "test_receive_of_another_nodes_channel_is_refused": "it subscribes to whatever it is asked to receive",
    "test_unknown_option_is_refused": "options are looked at when the first loop uses the layer",
    "test_layer_names_the_extension": "it has no group_expiry",
    "test_flush_empties_every_node": "flush() is for the loop that calls it alone",
    "test_wrong_key_never_stops_a_reader": "InvalidToken comes out of receive()",
    "test_async_to_sync_everywhere": "a channel belongs to the loop that made it",
    "test_channel_outlives_the_loop_that_made_it": "a channel belongs to the loop that made it",
    "test_messages_while_no_loop_runs": "nothing is received while no loop runs",
}
PUBSUB_RACES = {
    "test_cancel_storm_on_one_channel": "a cancelled receive() forgets its channel",
    "test_cancel_storm_on_several_channels": "a cancelled receive() forgets its channel",
    "test_storm_beside_a_steady_neighbour": "a cancelled receive() forgets its channel",
    "test_cancelled_in_the_turn_of_delivery": "a cancelled receive() forgets its channel",
    "test_cancelled_waiter_hands_its_signal_on": "a cancelled receive() forgets its channel",
    "test_timeouts_lose_nothing": "a cancelled receive() forgets its channel",
}


class TestInMemoryChannelLayer(Suite):
    features = Features.of_another_package(
        crosses_processes=False,
        several_layers=False,
        after_fork=False,
        encryption=False,
        json=False,
        message_size=False,
        prefix=False,
    )
    expected_failures = {
        "test_channel_name_is_ascii_to_its_end": NAMES,
        "test_message_that_is_no_dict_raises_type_error": NO_DICT,
        "test_tuple_arrives_as_a_list": "messages are copied, not packed",
        "test_unpackable_value_raises_type_error": "messages are copied, not packed: anything goes, until production",
        "test_channel_capacity_by_pattern": "channel_capacity is never compiled: send() raises ValueError",
        "test_expired_message_is_neither_counted_nor_delivered": "expired messages count until somebody receives",
        "test_channel_with_an_expired_message_leaves_its_groups": "expired messages count until somebody receives",
        "test_channel_that_is_read_stays_in_its_groups": "expired messages count until somebody receives",
        "test_group_expiry_of_zero_means_never": "group_expiry=0 ends a membership within a second",
    }
    occasional_failures = {
        "test_threads_with_loops_of_their_own": "asyncio.Queue is shared between loops",
        "test_group_over_several_loops": "asyncio.Queue is shared between loops",
    }

    @pytest.fixture
    def layer_config(self) -> LayerUnderTest:
        return LayerUnderTest(backend="channels.layers.InMemoryChannelLayer", patience=0.2)


class TestRedisChannelLayer(Suite):
    features = Features.of_another_package(several_layers=False, message_size=False)
    expected_failures = {
        "test_channel_name_is_ascii_to_its_end": NAMES,
        "test_message_that_is_no_dict_raises_type_error": NO_DICT,
        "test_unpackable_value_raises_type_error": SERIALIZER,
        "test_text_and_numbers_of_django_arrive_plain": DJANGO_TYPES,
        "test_dates_uuids_and_decimals_arrive": DJANGO_TYPES,
        "test_each_member_has_its_own_copy": "members of one process are handed the same dict",
        "test_name_of_no_node_is_a_normal_channel": "receive() raises AssertionError",
        "test_wrong_key_never_stops_a_reader": "InvalidToken comes out of receive()",
        "test_wrong_key_never_stops_a_worker": "InvalidToken comes out of receive()",
        "test_full_channel_hinders_no_neighbour": "the capacity is that of the whole process",
        "test_channel_with_an_expired_message_leaves_its_groups": "a channel whose messages expire stays in its groups",
        "test_another_nodes_channel_leaves_its_groups": "a channel whose messages expire stays in its groups",
        "test_channel_that_is_read_stays_in_its_groups": "an expired message of a neighbour fills the whole process",
        "test_group_expiry_of_zero_means_never": "group_expiry=0 ends the membership at once",
        "test_child_and_parent_reach_each_other": "the child has the parent's client id",
    }
    occasional_failures = {
        "test_order_of_sends_in_one_turn": "messages that are sent in one turn overtake each other",
        "test_message_to_another_node_expires": "a message that has expired is delivered at times",
        "test_each_job_goes_to_one_worker": "readers of one channel share a backup queue, which repeats jobs",
        "test_pool_of_forked_workers": "readers of one channel share a backup queue, which repeats jobs",
        "test_cancel_storm_of_several_tasks": "cancelled together, one of them raises KeyError",
        "test_cancel_storm_on_several_channels": "a cancelled receive() takes its neighbours' messages along",
        "test_cancel_storm_on_a_normal_channel": "a cancelled receive() takes its message along, or repeats it",
        "test_storm_beside_a_steady_neighbour": "a cancelled receive() takes its neighbours' messages along",
        "test_timeouts_lose_nothing": "a cancelled receive() takes its message along",
        "test_neighbours_joining_and_leaving": "a cancelled receive() takes its neighbours' messages along",
        "test_threads_with_loops_of_their_own": "two loops cannot receive at once",
        "test_group_over_several_loops": "two loops cannot receive at once",
        "test_loops_that_end_while_others_go_on": "two loops cannot receive at once",
        "test_receivers_in_several_loops_at_once": "two loops cannot receive at once",
        "test_cancel_storm_over_several_loops": "two loops cannot receive at once",
        "test_cancel_storm_on_one_channel": "now and then a cancelled receive() takes its message along",
        "test_quiet_channel_beside_a_busy_one": "the capacity is that of the whole process, which is full now and then",
        "test_normal_channel_between_nodes": "now and then a job is repeated",
        "test_worker_cancelled_while_waiting_loses_nothing": "now and then the cancelled reader took it along",
        "test_cancelled_waiter_hands_its_signal_on": "depends on which of the two asks Redis",
        "test_cancelled_in_the_turn_of_delivery": "depends on how fast Redis answers",
        "test_workers_beside_other_channels": "now and then a job is repeated",
    }
    left_out = {
        "test_waiting_receiver_outlives_close": "its connection is closed, and whether it lives on depends",
        "test_killed_senders_leave_no_gap": "too slow for the time that it is given",
        "test_parent_keeps_what_is_its_own": "the child uses the parent's connections, and either may hang",
    }

    @pytest.fixture
    def layer_config(self, redis_url: str) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_redis.core.RedisChannelLayer",
            config={"hosts": [redis_url]},
            shortest_expiry=1,
            scale=0.1,
            patience=0.3,
        )


class TestRedisPubSubChannelLayer(Suite):
    features = Features.of_another_package(
        several_layers=False,
        message_size=False,
        prefix=False,
        normal_channels=False,
        capacity=False,
        expiry=False,
        group_expiry=False,
        remote_group_add=False,
        foreign_names=False,
    )
    expected_failures = PUBSUB_FAILURES
    occasional_failures = PUBSUB_RACES
    # It does not wait for Redis to confirm a subscription: on a busy machine any message may come too early for it.
    left_out = {
        name: "loses what comes too early" for name in rule_names() if name not in PUBSUB_FAILURES | PUBSUB_RACES
    }

    @pytest.fixture
    def layer_config(self, redis_url: str) -> LayerUnderTest:
        return LayerUnderTest(
            backend="channels_redis.pubsub.RedisPubSubChannelLayer",
            config={"hosts": [redis_url]},
            shortest_expiry=1,
            scale=0.1,
            patience=0.2,
        )
