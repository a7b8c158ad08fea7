"""The page that says who did better; it only reads files."""

from pege.report.page import verdict, write_report
from pege.report.systems import System, dialogs_of, ratings_file, read_system, scores_file

__all__ = ["System", "dialogs_of", "ratings_file", "read_system", "scores_file", "verdict", "write_report"]
