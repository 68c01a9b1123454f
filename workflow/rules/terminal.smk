# What the terminal is told beside Snakemake's own events: how many jobs are left (snakemake_logger_plugin_unet_em).
#
# Inputs:  none
# Outputs: none

from collections import Counter


def follow_jobs():
    """Let the time left be told."""
    for handler in workflow.logger_manager.get_log_handlers():
        if hasattr(handler, "run_lines"):
            handler.run_lines.time_left.jobs_left = jobs_left


def jobs_left():
    """How many jobs of each rule have not finished; None while Snakemake changes them."""
    try:
        left = Counter(job.rule.name for job in workflow.dag.needrun_jobs())
    except RuntimeError:  # the terminal has a thread of its own
        return None
    return Counter({rule: jobs for rule, jobs in left.items() if rule != "all"})
