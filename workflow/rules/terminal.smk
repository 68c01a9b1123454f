# What the terminal is told beside Snakemake's own events: which jobs are left (snakemake_logger_plugin_unet_em).
#
# Inputs:  none
# Outputs: none

import sys

from snakemake_logger_plugin_unet_em.command_line import option_values


def follow_jobs():
    """Let the time left be told, and which rules there are."""
    for handler in workflow.logger_manager.get_log_handlers():
        if hasattr(handler, "run_lines"):
            handler.run_lines.time_left.jobs_left = jobs_left
            handler.run_lines.rules = [rule.name for rule in workflow.rules]


def jobs_left():
    """The rule of each job that has not finished, by its number; None while Snakemake changes them."""
    try:
        left = {
            workflow.dag.jobid(job): job.rule.name
            for job in workflow.dag.needrun_jobs()
        }
    except (KeyError, RuntimeError):
        # The terminal has a thread of its own, and may ask in the middle of a change.
        return None
    return {number: rule for number, rule in left.items() if rule != "all"}


def named_rules():
    """Rules that options of the command line name, by option; those of --until and the like Snakemake checks itself."""
    given = workflow.resource_settings
    return {
        "--set-threads": given.overwrite_threads,
        "--set-resources": given.overwrite_resources,
        "--omit-from": option_values("--omit-from|-O", sys.argv),
        "--allowed-rules": option_values("--allowed-rules", sys.argv),
    }
