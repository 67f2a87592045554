"""Gaussian mixture with full covariances, on the device of the rows; number of components given or chosen by BIC.

Implemented in `diffseglung.method.mixture`.
"""

from diffseglung.method.mixture import Mixture, em, fit, fit_by_bic

__all__ = ["Mixture", "em", "fit", "fit_by_bic"]
