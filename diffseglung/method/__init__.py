"""The paper's method: distilled diffusion features of lung CT, clustered, named and sharpened. In reading order:

=================================================================  ===================================================
stage and equation                                                 where
=================================================================  ===================================================
forward process  x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps      `diffusion.noised`
stage 1 loss  |eps - eps_theta(x_t, t)|                            `diffusion.DiffusionModel.loss`
noise estimate eps_theta: 3D U-Net; averaged weights               `unet`; `ema`
sampling: ancestral, DDIM, DPM-Solver++; patches for lung masks    `samplers`; `sampling`
teacher r(x0): 34 descriptors (HU, GLCM, LBP, Gabor)               `radiomics.descriptor`; grid: `radiomics.dense`
student s, teacher t: projection heads to unit vectors             `distillation.StudentHead`, `.TeacherHead`
InfoNCE  -log exp(s_i . t_i / tau) / sum_j exp(s_i . t_j / tau)    `distillation.info_nce`
stage 2 loss  L_diffusion + lambda(i) L_InfoNCE, with warm-up      `train.objective`, `distillation.warmup`
training loop, data, journal, resume state                         `train`
features of a scan at several noise levels                         `features`, on tiles of `patches`
mixture  p(x) = sum_k w_k N(x; m_k, S_k), K fixed or by BIC        `features.Projection`, `mixture`
names of components by HU; by attention to class tokens            `naming`; `attention`
Sobel-Diffusion Fusion of class borders                            `fusion`
weights files and their model card                                 `checkpoint`, `card`
=================================================================  ===================================================

`segment --method published` runs the inference stages, from `features` to `fusion`. The default without a model,
`physics`, uses only `fusion`, on the class posterior of `diffseglung.tissue`; with a model, `combined` uses `features`
as well.
"""
