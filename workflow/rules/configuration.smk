# The configuration, checked before anything else: `CONFIG`, and `RESULTS`, the folder of everything that is written.
#
# Inputs:  the configuration files, and --config
# Outputs: none

import os
from pathlib import Path

from snakemake.exceptions import WorkflowError

from unet.config.root import ConfigError, load_config
from unet.config.yaml_file import read_config_file, with_line_numbers


def with_config_files(message):
    """Return a message about keys, with file and line of each key."""
    paths = [Path(os.path.relpath(path)) for path in workflow.configfiles]
    return with_line_numbers(message, paths, workflow.config_settings.config)


try:
    if workflow.is_main_process:
        for path in workflow.configfiles:
            read_config_file(Path(path))
except ConfigError as error:
    raise WorkflowError(str(error)) from None
try:
    CONFIG = load_config(config)
except ConfigError as error:
    problems = with_config_files(str(error))
    raise WorkflowError(f"The configuration cannot be used:\n{problems}") from None

RESULTS = CONFIG.results
