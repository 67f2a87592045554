"""The 34 radiomic descriptors of many patches at once, or at every position of a scan, on the device of the tensors.

Implemented in `diffseglung.method.radiomics.descriptor` and `diffseglung.method.radiomics.dense`.
"""

from diffseglung.method.radiomics.dense import describe_dense
from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES, describe_batch
from diffseglung.platform.config import RadiomicsConfig

__all__ = ["DESCRIPTOR_NAMES", "RadiomicsConfig", "describe_batch", "describe_dense"]
