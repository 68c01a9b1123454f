"""A Snakemake executor for `benchmarks/scheduling.py`: a job is done when it is submitted, and nothing is computed.

Each declared output, and the file of its benchmark, is written, as a receipt would be; what is left is what Snakemake
itself and this workflow's Snakefile cost.
"""

from pathlib import Path

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.real import RealExecutor
from snakemake_interface_executor_plugins.jobs import JobExecutorInterface
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(
    non_local_exec=False,
    implies_no_shared_fs=False,
    job_deploy_sources=False,
    pass_envvar_declarations_to_cmd=False,
    auto_deploy_default_storage_provider=False,
)


class Executor(RealExecutor):
    """Writes outputs and reports success."""

    def run_job(self, job: JobExecutorInterface) -> None:
        info = SubmittedJobInfo(job=job)
        self.report_job_submission(info)
        for output in [*job.output, job.benchmark]:
            path = Path(str(output))
            path.parent.mkdir(parents=True, exist_ok=True)
            if getattr(output, "is_directory", False):
                path.mkdir(exist_ok=True)
            if path.exists():
                path.touch()  # it says with which configuration the last run was
            else:
                path.write_text("{}\n")
        self.report_job_success(info)

    def get_python_executable(self) -> str:
        raise NotImplementedError

    def get_exec_mode(self) -> str:
        raise NotImplementedError

    def cancel(self) -> None:
        """Do nothing: no job is running."""

    def shutdown(self) -> None:
        """Do nothing: no job is running."""

    @property
    def cores(self) -> int | None:
        """Return the number of cores that Snakemake was given."""
        return self.workflow.resource_settings.cores
