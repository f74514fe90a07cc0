"""Django's command line for the site."""

import multiprocessing
import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.acceptance.deployed.settings")
    if method := os.environ.get("DEPLOYED_START_METHOD"):
        multiprocessing.set_start_method(method)
    execute_from_command_line(sys.argv)
