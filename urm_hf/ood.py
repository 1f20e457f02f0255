"""Reports on unfamiliar text, `urm_hf.ood`, by their public name."""

from urm_hf.uncertainty.ood import Detector, OODReport, ood_report

__all__ = ["Detector", "OODReport", "ood_report"]
