"""A job of a cluster, as Ray's job server describes it."""

from __future__ import annotations

from ray.job_submission import JobStatus


class Job:
    """What the code reads of Ray's JobDetails."""

    def __init__(self, status: str, code: int | None = None, command: str = "rnncond store info s") -> None:
        self.status, self.driver_exit_code, self.entrypoint = JobStatus(status), code, command
        self.submission_id, self.message, self.start_time, self.end_time = "one", "killed", 1000, 3500
