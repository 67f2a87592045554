"""The 34 radiomic descriptors of many patches at once, or at every position of a scan, on the device of the tensors.

Implemented in `diffseglung.method.radiomics.batch` and `diffseglung.method.radiomics.dense`.
"""

from diffseglung.method.radiomics.batch import describe_batch
from diffseglung.method.radiomics.dense import describe_dense
from diffseglung.method.radiomics.descriptor import DESCRIPTOR_NAMES
from diffseglung.platform.config import RadiomicsConfig

__all__ = ["DESCRIPTOR_NAMES", "RadiomicsConfig", "describe_batch", "describe_dense"]
