"""The paper: distilled diffusion features of lung CT and what they are grouped and sharpened by, in reading order.

============================================  =====================================================================
stage or equation                             module
============================================  =====================================================================
forward process, noise and v losses           `diffusion`, with the U-Net of `unet`; averaged weights in `ema`
sampling: ancestral, DDIM, DPM-Solver++       `samplers`, `solver`; whole volumes in `sampling`
radiomic teacher, 34 descriptors              `radiomics`, its rows for training in `teacher`
projection heads, InfoNCE, warm-up            `heads`, `losses`
training of stages 1 and 2                    `train`
multi-timestep features of a scan             `features`, on tiles of `patches`
Gaussian mixture on projected features        `mixture`, `projection`
names of components by HU                     `naming`; by attention to class tokens `attention`
Sobel-Diffusion Fusion                        `fusion`
weights files and what they tell              `checkpoint`, `card`
============================================  =====================================================================

The default method of `segment` takes from here the fusion alone; its tissue comes from `diffseglung.tissue`.
"""
