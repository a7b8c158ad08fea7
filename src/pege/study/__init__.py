"""Human evaluation: a blind rating study in the browser, its results, agreement of raters (docs/study.md)."""

from pege.study.agreement import agreement_table, fleiss_kappa, gwet_ac1, krippendorff_alpha, read_judgements
from pege.study.design import Design, read_design

__all__ = [
    "Design",
    "agreement_table",
    "fleiss_kappa",
    "gwet_ac1",
    "krippendorff_alpha",
    "read_design",
    "read_judgements",
]
