"""Projection heads, InfoNCE and its warm-up, and the loss of stage 2 that joins them.

Implemented in `diffseglung.method.distillation` and `diffseglung.method.train.objective`.
"""

from diffseglung.method.distillation import StudentHead, TeacherHead, info_nce, soft_targets, warmup
from diffseglung.method.train.objective import DistillObjective
from diffseglung.platform.config import DistillConfig

__all__ = ["DistillConfig", "DistillObjective", "StudentHead", "TeacherHead", "info_nce", "soft_targets", "warmup"]
