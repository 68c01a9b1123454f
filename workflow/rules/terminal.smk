# Information for the terminal beside Snakemake's own events: the jobs that are left (snakemake_logger_plugin_unet_em).
#
# Inputs:  none
# Outputs: none

import sys

from snakemake_logger_plugin_unet_em.command_line import option_values


def follow_jobs():
    """Give the logger plugin the jobs that are left, for the time left, and the names of all rules."""
    for handler in workflow.logger_manager.get_log_handlers():
        if hasattr(handler, "run_lines"):
            handler.run_lines.time_left.jobs_left = jobs_left
            handler.run_lines.rules = [rule.name for rule in workflow.rules]


def jobs_left():
    """Return the rule of each unfinished job, by the number of the job; None while Snakemake changes the jobs."""
    try:
        left = {
            workflow.dag.jobid(job): job.rule.name
            for job in workflow.dag.needrun_jobs()
        }
    except (KeyError, RuntimeError):
        # The logger plugin has a thread of its own, and may ask in the middle of a change.
        return None
    return {number: rule for number, rule in left.items() if rule != "all"}


def named_rules():
    """Return the rules that options of the command line name, by option; Snakemake checks those of --until itself."""
    given = workflow.resource_settings
    return {
        "--set-threads": given.overwrite_threads,
        "--set-resources": given.overwrite_resources,
        "--omit-from": option_values("--omit-from|-O", sys.argv),
        "--allowed-rules": option_values("--allowed-rules", sys.argv),
    }
