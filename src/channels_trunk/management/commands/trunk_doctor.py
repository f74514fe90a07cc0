"""`manage.py trunk_doctor`: why a layer does not work, and how to mend it."""

import json
from argparse import ArgumentParser
from functools import partial
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError

from channels_trunk.doctor import examine
from channels_trunk.findings import Finding, Level
from channels_trunk.management.choosing import add_layer_option, known_aliases, new_layer
from channels_trunk.management.sizes import shown_text

__all__ = ["Command"]


class Command(BaseCommand):
    """The exit code is 1 if something is wrong."""

    help = "Examine a layer: its settings, its engine, messages within this process and to a child process."
    # A check that fails is a finding of its own here.
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options."""
        add_layer_option(parser)
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument(
            "--timeout", type=float, default=10.0, metavar="SECONDS", help="how long a message may take (10)"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Print each finding as it is made."""
        alias = options["layer"]
        if alias not in known_aliases():
            new_layer(alias)  # raises what there is to say
        found = []
        for finding in examine(alias, partial(new_layer, alias), within=options["timeout"]):
            found.append(finding)
            if not options["json"]:
                self._show(finding)
        if options["json"]:
            self.stdout.write(json.dumps(msgspec.to_builtins(found), indent=2))
        wrong = [finding.code for finding in found if finding.level is Level.ERROR]
        if wrong:
            raise CommandError(f"{alias}: {wrong[0]}")

    def _show(self, finding: Finding) -> None:
        style = {Level.OK: self.style.SUCCESS, Level.WARNING: self.style.WARNING, Level.ERROR: self.style.ERROR}
        self.stdout.write(
            f"{style[finding.level](finding.level.upper()):<7} {shown_text(finding.text)} [{finding.code}]"
        )
        if finding.remedy:
            self.stdout.write(f"        {shown_text(finding.remedy)}")
