"""The paper's tables as studies: a YAML names rows, seeds and claims, a planner runs them, a report says what holds."""

from pege.reproduce.config import Study, load_study
from pege.reproduce.inputs import check_inputs
from pege.reproduce.plan import Step, plan_study
from pege.reproduce.report import write_report
from pege.reproduce.run import run_steps

__all__ = ["Step", "Study", "check_inputs", "load_study", "plan_study", "run_steps", "write_report"]
