# Steps around the jobs: checks before the first job, messages and records after the last one.
#
# Inputs:  none
# Outputs: {results}/provenance.json and ro-crate-metadata.json, at the end of a run that has made the report

from unet.config.doubtful_settings import doubtful_settings
from unet.extras import is_installed, needs
from unet.run.changes import damaged_receipts, remove_unreadable_receipts, runs_again
from unet.run.hidden_edits import problem_of_hidden_edits
from unet.run.preconditions import (
    problem_of_executor,
    problem_of_model,
    problem_of_skeletons,
    problem_of_workers,
    problems_of_addresses,
    problems_of_compared_volumes,
    problems_of_files,
)
from unet.run.provenance import write_provenance
from unet.run.reported_settings import problem_of_touch
from unet.run.summary import (
    failure_lines,
    failures,
    is_reported,
    lines_of_run,
    new,
    notes_of_failures,
)


def check_before_run():
    """Stop before the first job where it is certain that one will fail, and warn of keys that nothing reads."""
    try:
        problems = problems_of_files(CONFIG, INPUTS.sample_files)
        problems += problems_of_addresses(CONFIG) if IS_MAIN else []
    except AddressError as error:
        raise WorkflowError(str(error)) from None
    if problems:
        here = f"Paths count from the working directory {Path.cwd()}."
        told = with_config_files("\n".join(problems))
        raise WorkflowError(f"Input files cannot be read:\n{told}\n{here}")
    if IS_MAIN:
        problems = [check(CONFIG) for check in (problem_of_skeletons, problem_of_model)]
        problems += problems_of_compared_volumes(CONFIG)
        problems.append(hidden_edits())
        if told := [problem for problem in problems if problem is not None]:
            raise WorkflowError("\n".join(told))
        for sentence in unused_keys(CONFIG) + doubtful_settings(CONFIG):
            logger.warning(f"Configuration: {sentence}")


def hidden_edits():
    """Return which input was edited although its size and time do not show it."""
    try:
        return problem_of_hidden_edits(
            CONFIG, Path(RESULTS), INPUTS.made_by, CHANGES.is_known
        )
    except AddressError as error:
        raise WorkflowError(str(error)) from None


def note_damage():
    """Note the receipts whose files are damaged: their jobs run again. `verify` finds the damage itself."""
    if not IS_MAIN or {"verify", "plan", "view"} & set(sys.argv):
        return
    for path, problem in remove_unreadable_receipts(Path(RESULTS), DRY_RUN):
        logger.warning(f"{path}: {problem}; the job runs again")
        if DRY_RUN:
            INPUTS.markers.write(path, problem)
    try:
        for path, problem in list(damaged_receipts(INPUTS)):
            if runs_again(path, INPUTS, sys.argv):
                logger.warning(f"{path}: {problem}; the job runs again")
            INPUTS.markers.write(path, problem)
    except AddressError as error:
        raise WorkflowError(str(error)) from None


def print_plan():
    """Print the plan in a dry run of `plan`, as the job itself would, but write nothing."""
    from unet.run.plan.plan import plan_run
    from unet.run.plan.text import as_text

    print(as_text(plan_run(CONFIG, PREDICT_THREADS)))


def begin_run():
    """Note which receipts exist before the first job, to tell at the end what this run has made."""
    EARLIER["made"] = written(Path(RESULTS))
    EARLIER["failed"] = notes_of_failures(Path(RESULTS))
    rules = {job.rule.name for job in workflow.dag.needrun_jobs()}
    problem = problem_of_executor(executor(), rules - workflow._localrules)
    problem = problem or problem_of_workers(CONFIG.predict.workers, rules)
    if workflow.touch:
        problem = problem_of_touch(Path(RESULTS), CONFIG)
    if problem is not None:
        raise WorkflowError(problem)
    if CONFIG.predict.dashboard and not is_installed("bokeh"):
        logger.info(
            f"predict.dashboard: true {needs('bokeh')}; predictions run without it"
        )


def executor():
    """Return the name of the executor that runs the jobs; None where Snakemake does not tell."""
    return getattr(workflow.executor_plugin, "name", None)


def end_run():
    """Record the run if it has made the report. List what it has made, with the scores."""
    if workflow.touch:
        record = Path(RESULTS, "run_config.yaml")
        logger.warning(
            f"Nothing was made: --touch only changes times. The files belong to the settings in {record}"
        )
        return
    made = new(EARLIER["made"], written(Path(RESULTS)))
    late = [
        name for name in LAYOUTS.unreadable if Path(receipt("survey", name)) in made
    ]
    if late:
        raise WorkflowError(
            f"The headers of {', '.join(late)} could not be read when this run was planned, but "
            "could be read later. Run the same command again: it makes what is missing"
        )
    lines = lines_of_run(Path(RESULTS), made)
    if is_reported(Path(RESULTS), made):
        lines += write_record()
    logger.info("\n".join(["", *lines]))


def end_failed_run():
    """Do the same as `onsuccess`, and print last why jobs have failed."""
    end_run()
    failed = new(EARLIER["failed"], notes_of_failures(Path(RESULTS)))
    logger.error("\n".join(["", *failure_lines(failures(failed))]))


def write_record():
    """Write the record of the report's run, and the same as an RO-Crate; return what could not be written."""
    # imported when it is needed, since every job reads this file
    from unet.run.ro_crate import write_run_crate

    asked = [
        Path(path) for job in workflow.dag.jobs for path in (*job.output, *job.log)
    ]
    record = write_provenance(Path(RESULTS), CONFIG, ROOT, sys.argv, STARTED, asked)
    problem = write_run_crate(Path(RESULTS), record, ROOT)
    return [problem] if problem else []


check_before_run()
note_damage()
if IS_MAIN and "plan" in sys.argv and DRY_RUN:
    print_plan()
