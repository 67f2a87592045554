"""The 34 radiomic descriptors of one patch, on the CPU by NumPy and SciPy: the definition of every number.

Implemented in `diffseglung.method.radiomics.descriptor`.
"""

from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES, describe_patch
from diffseglung.platform.config import RadiomicsConfig

__all__ = ["DESCRIPTOR_NAMES", "RadiomicsConfig", "describe_patch"]
