"""Plans of the pages about RabbitMQ."""

from tests.docs.treatments import Plan, Settings, Shell

SET_UP = Plan(
    blocks=[
        Settings(begins="import os", rabbitmq=True),
        Shell(begins="rabbitmqctl add_vhost mysite", in_scenario=True),
        Settings(begins="import os", rabbitmq=True),
    ]
)

MOVE = Plan(blocks=[Settings(begins="import os", rabbitmq=True, messages=["channels_trunk.W001"])])
